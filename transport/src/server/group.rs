//! Counts what is going on, so that a server that stops can wait until it has ended.
//!
//! A member is a sender of a channel on which nothing is ever sent: the channel ends when all senders are gone.

use std::convert::Infallible;

use tokio::sync::mpsc;

/// Things that are going on.
pub(super) struct Group {
    own: mpsc::Sender<Infallible>,
    ended: mpsc::Receiver<Infallible>,
}

/// One of them, until it is dropped.
#[derive(Clone)]
pub(super) struct Member(#[expect(dead_code, reason = "only its drop counts")] mpsc::Sender<Infallible>);

impl Group {
    pub fn new() -> Self {
        let (own, ended) = mpsc::channel(1);
        Self { own, ended }
    }

    /// Something begins.
    pub fn enter(&self) -> Member {
        Member(self.own.clone())
    }

    /// Waits until all of them have ended.
    pub async fn emptied(self) {
        let Self { own, mut ended } = self;
        drop(own);
        while ended.recv().await.is_some() {}
    }
}
