//! The walk against LMDB itself: under random load, and under random damage.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
};

use heed::{
    CommitOrAbort, Database, DatabaseFlags,
    types::{Bytes, Unit},
};

use super::{
    super::{DATA, EnvError, Environment, Layout, seal},
    *,
};

const TABLES: &[Table<'_>] = &[
    Table { name: "plain", has_duplicates: false },
    Table { name: "set", has_duplicates: false },
    Table { name: "several", has_duplicates: true },
];
const LAYOUT: Layout<'_> = Layout { map_bytes: 1 << 30, readers: 16, tables: TABLES };
/// The variable that names the folder of an environment to the process that damages it.
const FOLDER: &str = "BKFS_TEST_LMDB";

type Tables = (Database<'static, Bytes, Bytes>, Database<'static, Bytes, Unit>, Database<'static, Bytes, Bytes>);

/// Random numbers that are the same each time.
struct Numbers(blake3::OutputReader);

impl Numbers {
    fn new(seed: u64) -> Self {
        Self(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
    }

    fn below(&mut self, end: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes) % end
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        self.0.fill(&mut bytes);
        bytes
    }
}

fn open(folder: &Path) -> std::result::Result<(Environment, Tables), EnvError> {
    let env = Environment::open(folder, &LAYOUT)?;
    let create = || -> heed::Result<Tables> {
        let txn = env.env().write_txn()?;
        let made = env.env().create_databases_and_commit(txn, |opener, txn| -> heed::Result<_> {
            let plain = opener.create_database::<Bytes, Bytes>(txn, Some("plain"))?;
            let set = opener.create_database::<Bytes, Unit>(txn, Some("set"))?;
            let mut options = opener.database_options().types::<Bytes, Bytes>();
            options.name("several").flags(DatabaseFlags::DUP_SORT | DatabaseFlags::DUP_FIXED);
            let several = options.create(txn)?;
            Ok(CommitOrAbort::<_, ()>::Commit((plain, set, several)))
        })?;
        Ok(made.unwrap_commit())
    };
    let tables = create().map_err(|error| EnvError::new(folder, error))?;
    Ok((env, tables))
}

/// A transaction of random changes.
fn change(env: &Environment, (plain, set, several): &Tables, random: &mut Numbers) -> heed::Result<()> {
    let mut txn = env.write_txn()?;
    let is_small = random.below(4) > 0;
    for _ in 0..random.below(if is_small { 8 } else { 400 }) {
        let name = random.below(600).to_be_bytes();
        let key = &name[6 - random.below(5) as usize..];
        match random.below(9) {
            0..=1 => {
                let len = [30, 300, 3000, 40_000][random.below(4) as usize];
                plain.put(&mut txn, key, &random.bytes(len))?;
            }
            2 => plain.put(&mut txn, key, &random.bytes(1 + key[key.len() - 1] as u64))?,
            3 => {
                plain.delete(&mut txn, key)?;
            }
            4 => {
                let key = random.bytes(16);
                set.put(&mut txn, &key, &())?;
            }
            5..=6 => several.put(&mut txn, &[key[key.len() - 1] % 30], &random.bytes(20))?,
            7 => several.put(&mut txn, key, &random.bytes(20))?,
            _ => {
                let key = [key[key.len() - 1] % 30];
                let found = several.get_duplicates(&txn, &key)?.and_then(|mut rows| rows.next()).transpose()?;
                if let Some(value) = found.map(|(_, value)| value.to_vec()) {
                    several.delete_one_duplicate(&mut txn, &key, &value)?;
                }
            }
        }
    }
    match random.below(300) {
        0 => plain.clear(&mut txn)?,
        1 => set.clear(&mut txn)?,
        2 => several.clear(&mut txn)?,
        3..=20 => {
            txn.abort();
            return Ok(());
        }
        _ => {}
    }
    txn.commit()
}

/// Uses all of an environment: reads everything, and changes much. Damage may come up as errors.
fn use_all(env: &Environment, tables: &Tables, random: &mut Numbers) -> heed::Result<()> {
    let txn = env.read_txn()?;
    tables
        .0
        .iter(&txn)?
        .try_for_each(|row| row.map(|(_, value)| assert_ne!(blake3::hash(value).as_bytes(), &[0; 32])))?;
    tables.1.iter(&txn)?.try_for_each(|row| row.map(drop))?;
    tables.2.iter(&txn)?.try_for_each(|row| row.map(drop))?;
    drop(txn);
    (0..12).try_for_each(|_| change(env, tables, random))?;
    let mut txn = env.write_txn()?;
    while let Some((key, _)) = tables.0.first(&txn)? {
        let key = key.to_vec();
        tables.0.delete(&mut txn, &key)?;
    }
    while let Some((key, _)) = tables.2.last(&txn)? {
        let key = key.to_vec();
        tables.2.delete(&mut txn, &key)?;
    }
    txn.commit()
}

#[test]
fn whatever_lmdb_writes_is_accepted() {
    for seed in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        let mut random = Numbers::new(seed);
        let (env, tables) = open(folder.path()).unwrap();
        let data = File::open(folder.path().join(DATA)).unwrap();
        for step in 0..600 {
            // A reader keeps old pages from being used again.
            let reader = env.read_txn().unwrap();
            change(&env, &tables, &mut random).unwrap();
            if random.below(3) == 0 {
                change(&env, &tables, &mut random).unwrap();
            }
            drop(reader);
            walk(&data, env.env(), TABLES).unwrap_or_else(|fault| panic!("seed {seed}, step {step}: {fault:?}"));
        }
        drop((tables, env));
        assert!(open(folder.path()).unwrap().0.is_proven());
    }
}

#[test]
fn what_is_changed_behind_the_seal_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Numbers::new(7);
    let (env, tables) = open(folder.path()).unwrap();
    (0..40).try_for_each(|_| change(&env, &tables, &mut random)).unwrap();
    drop((env, tables));
    let whole = fs::read(folder.path().join(DATA)).unwrap();
    let sealed = fs::read(folder.path().join(seal::NAME)).unwrap();
    for _ in 0..200 {
        let mut bytes = whole.clone();
        let at = random.below(whole.len() as u64) as usize;
        bytes[at] ^= 1 << random.below(8);
        fs::write(folder.path().join(DATA), bytes).unwrap();
        assert!(matches!(open(folder.path()), Err(EnvError::Damage(_))), "byte {at}");
    }
    fs::write(folder.path().join(DATA), &whole).unwrap();
    // A seal that is no seal, and none, are not believed; nor do they make a good file bad.
    for seal in [&b""[..], b"rubbish", &[9; 41]] {
        fs::write(folder.path().join(seal::NAME), seal).unwrap();
        assert!(!open(folder.path()).unwrap().0.is_proven());
        assert_eq!(fs::read(folder.path().join(seal::NAME)).unwrap(), sealed);
    }
    // Before anything is written, the seal goes.
    let (env, tables) = open(folder.path()).unwrap();
    assert!(env.is_proven());
    let txn = env.write_txn().unwrap();
    assert!(!folder.path().join(seal::NAME).exists());
    txn.abort();
    drop((env, tables));
    assert!(open(folder.path()).unwrap().0.is_proven());
}

/// Damages an environment in many ways. Nothing but the walk stands between LMDB and the damage.
#[test]
#[ignore = "run by the test of damage without a seal, in a process of its own"]
fn damage_without_a_seal_is_met() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("a folder"));
    let mut random = Numbers::new(11);
    let whole = fs::read(folder.join(DATA)).unwrap();
    let pages = whole.len() as u64 / 4096;
    let mut refused = 0;
    let rounds = 400;
    for round in 0..rounds {
        let used = folder.join(format!("used-{round}"));
        fs::create_dir(&used).unwrap();
        let mut bytes = whole.clone();
        let page = 4096 * random.below(pages) as usize;
        match random.below(8) {
            0 => bytes.truncate(whole.len() - 4096 * random.below(pages / 4) as usize - random.below(2) as usize),
            1 => bytes[page..page + 4096].fill(0),
            2 => {
                let noise = random.bytes(4096);
                bytes[page..page + 4096].copy_from_slice(&noise);
            }
            3 => {
                let other = 4096 * random.below(pages) as usize;
                bytes.copy_within(other..other + 4096, page);
            }
            // Where the structure is: the header of a page, and the offsets of its nodes.
            4..=5 => (0..1 + random.below(3)).for_each(|_| {
                bytes[page + random.below(64) as usize] ^= 1 << random.below(8);
            }),
            _ => (0..1 + random.below(20)).for_each(|_| {
                bytes[page + random.below(4096) as usize] = random.below(256) as u8;
            }),
        }
        fs::write(used.join(DATA), bytes).unwrap();
        match open(&used) {
            Ok((env, tables)) => drop(use_all(&env, &tables, &mut random).ok()),
            Err(EnvError::Damage(_)) => refused += 1,
            Err(EnvError::Other(error)) => panic!("round {round}: {error}"),
        }
        fs::remove_dir_all(used).unwrap();
    }
    println!("of {rounds} damaged environments, {refused} were refused");
    assert!(refused > rounds / 8);
}

#[test]
fn damage_without_a_seal_ends_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Numbers::new(10);
    let (env, tables) = open(folder.path()).unwrap();
    (0..60).try_for_each(|_| change(&env, &tables, &mut random)).unwrap();
    drop((env, tables));
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let name = "repository::index::lmdb::walk::tests::damage_without_a_seal_is_met";
    child.args(["--exact", name, "--ignored", "--nocapture"]).env(FOLDER, folder.path());
    let output = child.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), None, "{told}");
    assert!(output.status.success(), "{told}");
    print!("{}", String::from_utf8_lossy(&output.stdout));
}
