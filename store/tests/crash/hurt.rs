//! Damage beyond mending, and the power fails while it is found, repaired or healed.
//!
//! Part of a push's pack is overwritten. At every point of what is done about that, the repository must open, read
//! every file except those whose chunks are lost, and report every lost chunk that it denies. Each folder then
//! continues in one of two ways, in turn: it is read, pushed to and repaired; or it is repaired, which ends what a
//! repair has begun, and pushed to. A push sends only what the repository says that it lacks. In the end everything is
//! whole, and the damaged pack is gone.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use bkfs_store::{
    Error, ErrorKind, Result,
    access::{Lease, Maintain, Mending, Open, OpenRequest, Push, Read, Receipt, Seen},
    base::id::{ChunkId, PackId, SnapshotId},
    format::{
        loss::Lost,
        pack::{Pack, PackTable},
    },
    owner::{
        check::CheckProgress,
        reader::Reader,
        repair::{RepairOptions, RepairReport, repair_packs},
    },
    repository::{Repository, backend::Files as _},
};

use crate::{
    FLOOR, Promised, Step,
    checked::{Checked, has, text},
    crash_after_death_in, crash_after_death_in_above, crash_in, crash_in_above,
    story::{self, Promise, Story},
    support::world::{Files, Packed, problems},
};

/// The parity of packs as short as these has shards of this many bytes. Two of them may be lost.
const SHARD: usize = 4096;

/// A push that is about to be damaged.
pub struct Noise {
    files: Files,
    packed: Packed,
    receipt: Receipt,
    hurt: Option<ExpectedDamage>,
}

/// What is damaged.
#[derive(Debug, Clone)]
pub struct ExpectedDamage {
    pub pack: PackId,
    pub snapshot: SnapshotId,
    files: Files,
    /// Chunks that are lost with the pack.
    pub lost: Vec<ChunkId>,
    /// The files that cannot be read.
    pub files_lost: BTreeSet<String>,
    /// Chunks of the pack that are not lost, but may be denied until it is repaired.
    pub denied: Vec<ChunkId>,
    /// What a client last saw before the damage.
    seen: Seen,
    /// Whether the file was removed and this has not been noticed: only an index knows that it was there.
    pub is_unnoticed: bool,
    /// How many packs may have a chunk that is not lost.
    copies: usize,
}

/// A push of four files that do not compress, in a pack of nine shards.
fn push_noise(story: &mut Story) -> Result<()> {
    let mut files = Files::new();
    for n in 0..4u8 {
        let mut bytes = vec![0; 8192];
        blake3::Hasher::new().update(&[n]).finalize_xof().fill(&mut bytes);
        files.insert(format!("noise-{n}"), bytes);
    }
    let packed = story.world.packs(&files);
    let receipt = story.world.push_packs(story.repo(), &packed)?;
    packed.uploads.iter().for_each(|(_, chunks)| story.recorder.mark(Promise::Chunks(chunks.clone())));
    story.recorder.mark(Promise::Snapshot(receipt.clone(), files.clone()));
    story.noise = Some(Noise { files, packed, receipt, hurt: None });
    Ok(())
}

impl Story {
    fn noise(&self) -> &Noise {
        self.noise.as_ref().unwrap()
    }

    /// The pack with the push's data, or with its trees.
    fn pack(&self, number: usize) -> (PackId, PackTable) {
        let upload = &self.noise().packed.uploads[number].0;
        (upload.id, Pack::parse(&upload.bytes).unwrap().table)
    }

    /// Announces that a pack is about to be damaged. All frames that touch the span are lost.
    fn hurting(&mut self, number: usize, from: usize, to: usize) -> PackId {
        let (pack, table) = self.pack(number);
        let is_hit = |at: u32, len: u32| (at as usize) < to && (at + len) as usize > from;
        let (mut lost, mut denied) = (Vec::new(), Vec::new());
        for frame in &table.frames {
            if is_hit(frame.offset, frame.len) { &mut lost } else { &mut denied }.extend(&frame.ids);
        }
        let Noise { files, receipt, .. } = self.noise();
        let is_lost = |bytes: &[u8]| number == 1 || lost.contains(&self.world.push.ids().data_id(bytes));
        let files_lost = files.iter().filter(|(_, bytes)| is_lost(bytes)).map(|(name, _)| name.clone()).collect();
        let (snapshot, seen, files) = (receipt.snapshot, receipt.now, files.clone());
        let is_unnoticed = to == usize::MAX;
        let hurt = ExpectedDamage { pack, snapshot, files, lost, files_lost, denied, seen, is_unnoticed, copies: 1 };
        self.recorder.mark(Promise::Hurting(hurt.clone()));
        self.noise.as_mut().unwrap().hurt = Some(hurt);
        pack
    }

    /// Overwrites part of a pack.
    fn hurt(&mut self, number: usize, from: usize, to: usize) -> Result<()> {
        let pack = self.hurting(number, from, to);
        self.overwrite(&pack_file(pack), from, to);
        Ok(())
    }

    fn overwrite(&self, name: &str, from: usize, to: usize) {
        let path = self.file(name);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        self.recorder.write(&path, &file, &vec![0xee; to - from], from as u64).unwrap();
        self.recorder.sync(&path, &file).unwrap();
    }
}

fn pack_file(id: PackId) -> String {
    format!("packs/{:02x}/{id}", id.0[0])
}

/// Three shards are lost, and with them two of four files.
fn hurt_some(story: &mut Story) -> Result<()> {
    story.hurt(0, 3 * SHARD, 6 * SHARD)
}

/// Everything is lost. If there is parity, it has the table.
fn hurt_all(story: &mut Story) -> Result<()> {
    let len = story.noise().packed.uploads[0].0.bytes.len();
    story.hurt(0, 0, len)
}

/// Without parity, everything is lost with the table: nobody knows what is where.
fn hurt_table(story: &mut Story) -> Result<()> {
    let len = story.noise().packed.uploads[0].0.bytes.len();
    let pack = story.hurting(0, 0, len);
    story.overwrite(&pack_file(pack), len - 300, len);
    Ok(())
}

/// The directory is lost, and with it all files of the snapshot.
fn hurt_trees(story: &mut Story) -> Result<()> {
    story.hurt(1, 100, 140)
}

/// The file is removed. Its parity alone is not enough to recreate it.
fn remove(story: &mut Story) -> Result<()> {
    let pack = story.hurting(0, 0, usize::MAX);
    let path = story.file(&pack_file(pack));
    story.recorder.remove(&path).unwrap();
    story.recorder.sync_folder(path.parent().unwrap()).unwrap();
    Ok(())
}

/// A shard is lost, which parity recreates.
fn hurt_little(story: &mut Story) -> Result<()> {
    let (pack, _) = story.pack(0);
    story.overwrite(&pack_file(pack), 5 * SHARD, 6 * SHARD);
    Ok(())
}

fn mend(story: &mut Story) -> Result<()> {
    let (pack, _) = story.pack(0);
    match story.repo().mend(pack)? {
        Mending::Mended(1) | Mending::Whole => Ok(()),
        // A process that dies reads nothing more.
        _ => Err(Error::Interrupted),
    }
}

/// The store finds the damage.
fn find(story: &mut Story) -> Result<()> {
    let pack = story.noise().hurt.as_ref().unwrap().pack;
    // This repository may have noticed already that the pack is missing.
    if story.repo().packs(None, 100)?.iter().any(|info| info.id == pack) {
        story.repo().mend(pack)?;
    }
    let packs = story.repo().quarantine(None, 10)?;
    match packs.iter().any(|found| found.pack == pack) {
        true => Ok(()),
        // The quarantine could not be recorded.
        false => Err(Error::Interrupted),
    }
}

/// Another process opens the repository, and finds that a pack is missing.
fn find_missing(story: &mut Story) -> Result<()> {
    story::reopen(story);
    story.repo().open(&OpenRequest::default())?;
    let lost = &story.noise().hurt.as_ref().unwrap().lost;
    if story.repo().has(None, lost)?.contains(&true) {
        return Err(Error::Interrupted);
    }
    story.recorder.mark(Promise::Noticed);
    Ok(())
}

fn repair(story: &mut Story) -> Result<()> {
    let mut report = repair_with(story.repo(), &story.reader())?;
    match report.failed.pop() {
        Some(error) => Err(error),
        None => {
            story.recorder.mark(Promise::Repaired);
            Ok(())
        }
    }
}

fn repair_with(repo: &Repository, reader: &Reader) -> Result<RepairReport> {
    let opened = repo.open(&OpenRequest::default())?;
    repair_packs(
        reader,
        repo,
        &opened,
        &RepairOptions { threads: 1, ..RepairOptions::default() },
        &CheckProgress::default(),
    )
}

/// Pushes the same files. What it sends again although it is not lost is stored twice, before the pack is repaired and
/// afterwards.
fn heal(story: &mut Story) -> Result<()> {
    story.recorder.mark(Promise::Healing);
    let repo = story.repo();
    let files = &story.noise().files;
    let packed = story.world.packs_lacking(repo, files, 1)?;
    let receipt = story.world.push_packs(repo, &packed)?;
    story.recorder.mark(Promise::Snapshot(receipt, files.clone()));
    story.recorder.mark(Promise::Healed);
    Ok(())
}

/// The client that stored the pack stores it once more.
fn put_again(story: &mut Story) -> Result<()> {
    story.recorder.mark(Promise::Healing);
    for (upload, _) in &story.noise().packed.uploads {
        story.repo().put_pack(Lease::default(), upload)?;
    }
    story.recorder.mark(Promise::Healed);
    Ok(())
}

impl ExpectedDamage {
    pub fn healing(&mut self) {
        self.copies += 1;
    }

    fn ids(&self) -> impl Iterator<Item = &ChunkId> {
        self.lost.iter().chain(&self.denied)
    }
}

impl Checked<'_> {
    /// The folder is read, and the files are pushed again. Then it is repaired.
    pub fn healed(&self, folder: &Path, promised: &Promised, hurt: &ExpectedDamage) -> Result<(), String> {
        let (repo, _, reader) = self.opened(folder, promised)?;
        self.unreadable(&reader, promised, hurt)?;
        told(&repo, hurt)?;
        let mut promised = promised.clone();
        self.push_again(&repo, &mut promised, hurt)?;
        self.all_readable(&repo, &promised, hurt)?;
        self.repair(&repo, hurt)?;
        // Readers that did not meet the damage could not report it: it may be in a table that they did not need.
        told(&repo, hurt)?;
        self.push_again(&repo, &mut promised, hurt)?;
        self.ended(folder, repo, &promised, hurt)
    }

    /// The folder is repaired, and then the files are pushed again.
    pub fn repaired(&self, folder: &Path, promised: &Promised, hurt: &ExpectedDamage) -> Result<(), String> {
        let (repo, _, _) = self.opened(folder, promised)?;
        self.repair(&repo, hurt)?;
        drop(repo);
        let repo = self.open(folder)?;
        told(&repo, hurt)?;
        has(&repo, &hurt.denied, "is not lost, but gone")?;
        for id in &hurt.denied {
            let packs = packs_with(&repo, *id)?;
            if !(1..=hurt.copies).contains(&packs) {
                return Err(format!("chunk {id} is in {packs} packs"));
            }
        }
        self.unreadable(&self.world.reader(repo.clone()), promised, hurt)?;
        let mut promised = promised.clone();
        self.push_again(&repo, &mut promised, hurt)?;
        self.ended(folder, repo, &promised, hurt)
    }

    /// Everything is whole, now and when the index is rebuilt.
    fn ended(
        &self,
        folder: &Path,
        repo: Arc<Repository>,
        promised: &Promised,
        hurt: &ExpectedDamage,
    ) -> Result<(), String> {
        let reader = self.world.reader(repo.clone());
        self.whole(&*repo, &reader, promised).map_err(|error| format!("in the end: {error}"))?;
        let report = repair_with(&repo, &reader).map_err(text("the second repair"))?;
        if report.mended > 0 || !report.damaged.is_empty() || !report.failed.is_empty() || report.problems_total > 0 {
            return Err(format!("a repair has left something: {report:?}"));
        }
        if self.floor > 0 {
            repo.operator().revive_all().map_err(text("reviving what was dropped"))?;
            self.all_readable(&repo, promised, hurt).map_err(|error| format!("after a revival: {error}"))?;
        } else if let Some(left) = repo.quarantine(None, 10).map_err(text("quarantine"))?.first() {
            return Err(format!("{left:?} is still in quarantine"));
        }
        drop((reader, repo));
        fs::remove_dir_all(folder.join("index")).unwrap();
        let repo = self.open(folder)?;
        self.all_readable(&repo, promised, hurt).map_err(|error| format!("with a new index: {error}"))
    }

    fn repair(&self, repo: &Arc<Repository>, hurt: &ExpectedDamage) -> Result<(), String> {
        let reader = self.world.reader(repo.clone());
        let mut report = repair_with(repo, &reader).map_err(text("repairing"))?;
        if let Some(error) = report.failed.pop() {
            return Err(format!("repairing: {error}"));
        }
        // The pack may be whole again, because it was put once more.
        let packs = repo.packs(None, 100).map_err(text("packs"))?;
        if packs.iter().any(|info| info.id == hurt.pack) && report.damaged.contains_key(&hurt.pack) {
            return Err("the damaged pack is still there".into());
        }
        Ok(())
    }

    fn push_again(&self, repo: &Arc<Repository>, promised: &mut Promised, hurt: &ExpectedDamage) -> Result<(), String> {
        let packed = self.world.packs_lacking(&**repo, &hurt.files, 1).map_err(text("has"))?;
        let receipt = self.world.push_packs(&**repo, &packed).map_err(text("the next push"))?;
        promised.snapshots.insert(receipt.snapshot, hurt.files.clone());
        Ok(())
    }

    fn all_readable(&self, repo: &Arc<Repository>, promised: &Promised, hurt: &ExpectedDamage) -> Result<(), String> {
        has(repo, &hurt.ids().copied().collect::<Vec<_>>(), "is gone")?;
        let reader = self.world.reader(repo.clone());
        let lost = self.unreadable(&reader, promised, hurt)?;
        let problems = problems(&reader, &**repo, false).map_err(text("checking"))?;
        if lost.is_empty() && problems.is_empty() { Ok(()) } else { Err(format!("{lost:?} {problems:?}")) }
    }

    /// The files of the damaged snapshot that cannot be read. All others must be as they were pushed.
    fn unreadable(
        &self,
        reader: &Arc<Reader>,
        promised: &Promised,
        hurt: &ExpectedDamage,
    ) -> Result<BTreeSet<String>, String> {
        let infos = reader.snapshots().map_err(text("snapshots"))?;
        let mut lost = BTreeSet::new();
        for (id, files) in &promised.snapshots {
            let info = infos.iter().find(|info| info.id == *id).ok_or_else(|| format!("snapshot {id} is gone"))?;
            for (name, bytes) in files {
                match read_one(reader, &info.snapshot.root, name) {
                    Ok(read) if read == *bytes => {}
                    Ok(_) => return Err(format!("{name} of {id} is not as it was pushed")),
                    Err(e)
                        if e.kind() == ErrorKind::Damaged && *id == hurt.snapshot && hurt.files_lost.contains(name) =>
                    {
                        lost.insert(name.clone());
                    }
                    Err(error) => return Err(format!("{name} of {id}: {error}")),
                }
            }
        }
        Ok(lost)
    }
}

fn read_one(reader: &Arc<Reader>, root: &bkfs_store::format::tree::Node, name: &str) -> Result<Vec<u8>> {
    let nodes = reader.dir(root.subtree.as_ref().unwrap()).read_from(0, usize::MAX)?;
    let node = nodes.iter().find(|node| node.name == name.as_bytes()).unwrap();
    Ok(reader.file(node).read_at(0, node.size as usize)?.to_vec())
}

/// Checks that a repository reports what it lacks to a client that was here before.
fn told(repo: &Repository, hurt: &ExpectedDamage) -> Result<(), String> {
    if hurt.is_unnoticed {
        return Ok(());
    }
    let seen = Some(hurt.seen);
    let opened = repo.open(&OpenRequest { client: None, seen }).map_err(text("opening"))?;
    if opened.head_at_seen != Some(hurt.seen.log_head) {
        return Err("the log was rolled back".into());
    }
    let Lost::Ids(told) = opened.lost else { return Ok(()) };
    let ids: Vec<ChunkId> = hurt.ids().copied().collect();
    let has = repo.has(None, &ids).map_err(text("has"))?;
    match ids.iter().zip(has).find(|(id, has)| !has && !told.contains(id)) {
        Some((id, _)) => Err(format!("chunk {id} is lost, but not reported")),
        None => Ok(()),
    }
}

/// How many packs have a chunk.
fn packs_with(repo: &Repository, id: ChunkId) -> Result<usize, String> {
    let mut count = 0;
    for info in repo.packs(None, 100).map_err(text("packs"))? {
        let bytes = repo.read_pack(info.id).map_err(text("a pack"))?;
        let table = PackTable::salvage(&bytes).ok_or_else(|| format!("pack {} has no table", info.id))?;
        count += usize::from(table.frames.iter().any(|frame| frame.ids.contains(&id)));
    }
    Ok(count)
}

#[test]
fn a_crash_while_a_pack_is_mended() {
    crash_in(&[story::init, push_noise, hurt_little, mend]);
    crash_after_death_in(&[story::init, push_noise, hurt_little, mend]);
}

#[test]
fn a_crash_while_damage_goes_into_quarantine() {
    for damage in [hurt_some, hurt_all] {
        crash_in(&[story::init, push_noise, damage, find]);
        crash_after_death_in(&[story::init, push_noise, damage, find]);
    }
    for damage in [hurt_some, hurt_all, hurt_table, hurt_trees] {
        crash_in(&[story::init_bare, push_noise, damage, find]);
    }
    crash_in(&[story::init, push_noise, remove, find_missing]);
}

#[test]
fn a_crash_in_a_repair() {
    for damage in [hurt_some, hurt_all] {
        crash_in(&[story::init, push_noise, damage, repair]);
    }
    crash_after_death_in(&[story::init, push_noise, hurt_some, repair]);
    // The damage was found before, or it was not. A key holder tells what is whole.
    for damage in [hurt_some, hurt_table, hurt_trees] {
        crash_in(&[story::init_bare, push_noise, damage, repair]);
    }
    crash_after_death_in(&[story::init_bare, push_noise, hurt_some, find, repair]);
    crash_in(&[story::init, push_noise, remove, repair]);
    crash_in(&[story::init, push_noise, remove, find_missing, repair]);
}

/// The damaged pack is in the grave or among the others. Wherever it is, it is known to be damaged.
#[test]
fn a_crash_in_a_repair_above_a_floor() {
    for init in [story::init, story::init_bare] {
        let steps: &[Step] = &[init, push_noise, hurt_some, repair];
        crash_in_above(FLOOR, steps);
        crash_after_death_in_above(FLOOR, steps);
    }
    let steps: &[Step] = &[story::init, push_noise, hurt_some, repair, heal, story::revive];
    crash_in_above(FLOOR, steps);
    crash_after_death_in_above(FLOOR, steps);
    crash_in_above(FLOOR, &[story::init, push_noise, hurt_some, repair, story::revive, repair]);
    crash_in_above(FLOOR, &[story::init, push_noise, hurt_some, repair, story::bury]);
}

#[test]
fn a_crash_while_lost_data_is_pushed_again() {
    for init in [story::init, story::init_bare] {
        crash_in(&[init, push_noise, hurt_some, find, heal]);
        crash_in(&[init, push_noise, hurt_some, find, heal, repair]);
    }
    crash_in(&[story::init, push_noise, hurt_some, repair, heal]);
    for before in [find, repair] {
        crash_in(&[story::init, push_noise, hurt_some, before, put_again]);
    }
    crash_after_death_in(&[story::init, push_noise, hurt_some, find, heal]);
    crash_after_death_in(&[story::init, push_noise, hurt_some, find, put_again]);
    crash_after_death_in_above(FLOOR, &[story::init, push_noise, hurt_some, repair, put_again]);
}
