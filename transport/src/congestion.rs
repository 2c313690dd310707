//! Congestion control: how many bytes may be in flight.
//!
//! A long link that loses a packet now and then is not full. CUBIC takes each loss for congestion, and then hardly
//! sends; BBR measures rate and delay, and fills the link. In a local network it is the other way round: a loss is rare
//! and does mean congestion, but most delays come from busy processors, and BBR takes them for a queue. So both
//! algorithms watch the connection from its beginning, and the shortest round trip so far decides which one's window is
//! used (measurements: docs/design/0009).
//!
//! This module decides nothing else: both algorithms are quinn's.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::congestion::{Bbr, BbrConfig, Controller, ControllerFactory, Cubic, CubicConfig};
use quinn_proto::RttEstimator;

/// A path is near if its shortest round trip is below this. A round trip takes 0.1 to 1 ms in a local network, and 5 ms
/// to the next town.
const NEAR_RTT_MAX: Duration = Duration::from_millis(2);

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
    /// Before the first acknowledgement every path counts as far. Both algorithms begin with about the same window.
    is_near: bool,
}

impl Controller for ByDistance {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.near.on_sent(now, bytes, last_packet_number);
        self.far.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.is_near = rtt.min() < NEAR_RTT_MAX;
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
