//! QUIC on loopback, with both ends on this machine: a whole pack in each direction, and the shortest request.

use std::{net::SocketAddr, time::Duration};

use bkfs_store::{
    access::{Lease, Open, OpenRequest, Push, Read},
    base::id::ChunkId,
    crypto::DataKey,
    format::{
        frame::{ChunkKind, FrameBuilder},
        pack::{PackUpload, PackWriter},
    },
};
use bkfs_transport::{
    Identity, Name,
    client::{self, Remote},
    server::{self, RunningServer},
};
use divan::{Bencher, counter::BytesCount};

use crate::material::{Owner, noise, owner};

/// How long an invitation is valid.
const VALID: Duration = Duration::from_secs(60);

struct Site {
    remote: Remote,
    owner: Owner,
    running: RunningServer,
    _folder: tempfile::TempDir,
}

fn site() -> Site {
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    server::init(folder.path(), &format!("127.0.0.1:{port}"), 0).unwrap();
    let running =
        server::start(folder.path(), SocketAddr::from(([127, 0, 0, 1], port)), server::Options::default()).unwrap();
    let account: Name = "bench".parse().unwrap();
    let token = server::invite(folder.path(), &account, "all".parse().unwrap(), None, VALID).unwrap();
    let identity = Identity::generate().unwrap();
    let url = client::join(&token, &identity).unwrap().url;
    let remote = Remote::connect(&url, &identity, token.fingerprint).unwrap();
    let owner = owner(&remote);
    Site { remote, owner, running, _folder: folder }
}

fn pack(owner: &Owner, seed: u64) -> PackUpload {
    let (push, key) = (&owner.push, DataKey::random());
    let mut writer = PackWriter::new(ChunkKind::Data, push.repo, &push.signing);
    writer.add_wrap(&push.seal().unwrap().wrap(push.repo, &key));
    for chunk in noise(15 << 20, seed).chunks(64 << 10) {
        let mut frame = FrameBuilder::new();
        frame.push(chunk);
        writer.add(&frame.seal(push.repo, ChunkKind::Data, &key, 1), &[push.ids().data_id(chunk)]);
    }
    writer.finish()
}

#[divan::bench(sample_count = 40, sample_size = 1)]
fn download(bencher: Bencher<'_, '_>) {
    let site = site();
    let pack = pack(&site.owner, 1);
    site.remote.put_pack(Lease::default(), &pack).unwrap();
    bencher.counter(BytesCount::new(pack.bytes.len())).bench_local(|| site.remote.read_pack(pack.id).unwrap());
    site.running.stop();
}

/// Includes what makes the pack durable on the server.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn upload(bencher: Bencher<'_, '_>) {
    let site = site();
    let mut seed = 1;
    bencher
        .with_inputs(|| {
            seed += 1;
            pack(&site.owner, seed)
        })
        .input_counter(|pack| BytesCount::new(pack.bytes.len()))
        .bench_local_values(|pack| site.remote.put_pack(Lease::default(), &pack).unwrap());
    site.running.stop();
}

#[divan::bench]
fn request(bencher: Bencher<'_, '_>) {
    let site = site();
    site.remote.open(&OpenRequest::default()).unwrap();
    bencher.bench_local(|| site.remote.has(None, &[ChunkId([1; 32])]).unwrap());
    site.running.stop();
}
