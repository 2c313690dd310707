//! Congestion control: how much may be under way.
//!
//! Over a distance, a link that loses a packet now and then is not a full one. CUBIC, which takes each loss for
//! congestion, then hardly moves; BBR, which measures rate and delay, fills the link. In a local network it is the other way
//! round: losses are rare and true, while delays are mostly those of busy processors, which BBR takes for a queue. So
//! both watch the connection from its beginning, and the shortest round trip that was ever seen says whose window
//! counts (measurements: docs/design/0009).
//!
//! Nothing else is decided here; both algorithms are quinn's.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::congestion::{Bbr, BbrConfig, Controller, ControllerFactory, Cubic, CubicConfig};
use quinn_proto::RttEstimator;

/// A path whose shortest round trip is below this is near: a local network's takes 0.1 to 1 ms, the way to a next town 5.
const NEAR: Duration = Duration::from_millis(2);

/// Makes [`ByDistance`] controllers.
#[derive(Debug, Default)]
pub struct ByDistanceConfig {
    near: Arc<CubicConfig>,
    far: Arc<BbrConfig>,
}

impl ControllerFactory for ByDistanceConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(ByDistance {
            near: Cubic::new(self.near.clone(), now, current_mtu),
            far: Bbr::new(self.far.clone(), current_mtu),
            is_near: false,
        })
    }
}

/// CUBIC on near paths, BBR on far ones.
#[derive(Debug, Clone)]
struct ByDistance {
    near: Cubic,
    far: Bbr,
    /// Until the first acknowledgement every path counts as far; both begin with about the same window.
    is_near: bool,
}

impl Controller for ByDistance {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.near.on_sent(now, bytes, last_packet_number);
        self.far.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.is_near = rtt.min() < NEAR;
        self.near.on_ack(now, sent, bytes, app_limited, rtt);
        self.far.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.near.on_end_acks(now, in_flight, app_limited, largest);
        self.far.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.near.on_congestion_event(now, sent, is_persistent, lost_bytes);
        self.far.on_congestion_event(now, sent, is_persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.near.on_mtu_update(new_mtu);
        self.far.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.is_near { self.near.window() } else { self.far.window() }
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        if self.is_near { self.near.initial_window() } else { self.far.initial_window() }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
