//! Mounting as the system does it: mount(8) with a type, lines in fstab, and ordinary users through fusermount3.
//!
//! Each script runs in its own namespaces, with its own `/sbin`, `/etc/fstab` and `/dev/fuse`. Nothing outside sees its
//! mounts, and what it leaves mounted or running ends with it.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use crate::{
    common::program::{Person, Server},
    expect, make_source, text,
};

/// The beginning of each script. `/sbin` holds only the helper, and every user may open `/dev/fuse`, as with udev.
const PRELUDE: &str = r#"
    set -eu
    mount -t tmpfs tmpfs "$(readlink -f /sbin)"
    ln -s "$DIR/bkfs" /sbin/mount.bkfs
    mkdir "$DIR/dev"
    mount -t tmpfs -o mode=755 tmpfs "$DIR/dev"
    mknod -m 666 "$DIR/dev/fuse" c 10 229
    mount --bind "$DIR/dev/fuse" /dev/fuse
    [ ! -e "$DIR/fstab" ] || mount --bind "$DIR/fstab" /etc/fstab
    user() { setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"; }
    mounted() { grep -qF " $1 " /proc/self/mountinfo; }
    gone() { ! mounted "$1"; }
    eventually() { for i in $(seq 600); do if "$@"; then return; fi; sleep 0.1; done; echo "never: $*" >&2; exit 1; }
    fails() { if "$@"; then echo "succeeds: $*" >&2; exit 1; fi; }
"#;

/// A repository with one push, files with secrets, and a copy of the program that every user may run.
struct System {
    person: Person,
    repo: String,
}

impl System {
    /// Sets up the system. Returns the reason if there are no namespaces or no FUSE.
    fn new() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root makes mount namespaces".into());
        }
        if let Some(why) = crate::common::program::cannot_mount() {
            return Err(why);
        }
        let works = Command::new("unshare").args(["--mount", "--pid", "--fork", "--mount-proc", "true"]).output();
        if !works.is_ok_and(|output| output.status.success()) {
            return Err("no mount namespaces here".into());
        }
        let person = Person::with_repo();
        make_source(&person.path("src"));
        person.push(&person.path("src"));
        fs::create_dir(person.path("mnt")).unwrap();
        person.copied_program();
        fs::set_permissions(person.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(person.path("password"), "correct horse battery staple\n").unwrap();
        person.run([OsStr::new("key"), OsStr::new("export-full"), person.path("full.key").as_os_str()]);
        let repo = person.repo.clone();
        Ok(Self { person, repo })
    }

    /// Gives all files to the user `nobody`.
    fn give_away(&self) {
        let status = Command::new("chown").args(["-R", "65534:65534"]).arg(self.person.dir.path()).status().unwrap();
        assert!(status.success());
    }

    /// Runs a script in an environment as empty as at boot.
    fn run(&self, script: &str) -> Output {
        let dir = self.person.dir.path();
        let vars: [(&str, OsString); 4] = [
            ("PATH", "/usr/bin:/bin".into()),
            ("DIR", dir.into()),
            ("REPO", self.repo.clone().into()),
            ("MNT", dir.join("mnt").into()),
        ];
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--mount-proc", "sh", "-c"]).arg(format!("{PRELUDE}{script}"));
        command.env_clear().envs(vars).current_dir(dir).output().unwrap()
    }

    /// Adds the options that name this test's folders for keys and caches.
    fn options(&self, more: &str) -> String {
        let dir = self.person.dir.path().display();
        format!("{more},config-dir={dir}/boot-config,cache-dir={dir}/boot-cache")
    }

    fn fstab(&self, options: &str) {
        let (repo, dir) = (&self.repo, self.person.dir.path().display());
        fs::write(
            self.person.path("fstab"),
            format!("# <what> <where> <type>\n{repo}  {dir}/mnt  bkfs  {options}  0  0\n"),
        )
        .unwrap();
    }
}

macro_rules! system {
    () => {
        match System::new() {
            Ok(system) => system,
            Err(why) => crate::skip!("{why}"),
        }
    };
}

#[test]
fn mount_8_finds_the_helper() {
    let system = system!();
    let options = system.options(&format!("password-file={}", system.person.path("password").display()));
    let script = format!(
        r#"
        mount -t bkfs "$REPO" "$MNT" -o '{options}'
        cat "$MNT/latest/hello"
        findmnt -n -o SOURCE,FSTYPE "$MNT"
        findmnt -n -o OPTIONS "$MNT" | tr , '\n' | grep -x -e ro -e nosuid -e nodev | sort
        umount "$MNT"
        gone "$MNT"
        mount -f -t bkfs "$REPO" "$MNT" -o '{options}'
        gone "$MNT"
        fails mount -t bkfs "$REPO" "$MNT" -o 'snapshto=latest,{options}'
        fails mount -t bkfs "$REPO" "$MNT/absent" -o '{options}'
        "#
    );
    let output = system.run(&script);
    expect(&output, 0, &["unknown option snapshto", "absent"]);
    let repo = &system.repo;
    assert_eq!(text(&output.stdout), format!("hello\n{repo} fuse.bkfs\nnodev\nnosuid\nro\n"));
}

#[test]
fn a_line_in_fstab_mounts() {
    let system = system!();
    let key = system.person.path("full.key");
    // The options from the documentation. Without others, bkfs uses root's folders, which are empty here.
    system.fstab(&format!("noauto,nofail,_netdev,x-systemd.automount,key-file={},allow_other", key.display()));
    let output = system.run(
        r#"
        mount -t tmpfs tmpfs "$(getent passwd 0 | cut -d: -f6)"
        mount "$MNT"
        cat "$MNT/latest/hello"
        user cat "$MNT/latest/hello"
        umount "$MNT"
        gone "$MNT"
        mount -T "$DIR/fstab" "$REPO"
        cat "$MNT/latest/hello"
        umount "$MNT"
        mount -a
        gone "$MNT"
        "#,
    );
    expect(&output, 0, &[]);
    assert_eq!(text(&output.stdout), "hello\n".repeat(3));
}

#[test]
fn mount_a_mounts_a_server_once() {
    let mut system = system!();
    let operator = Person::new();
    let server = Server::start(&operator, &operator.path("server"));
    system.person.repo = system.person.run(["join", &server.invite(&operator, "alice", "all")]).trim().to_owned();
    system.person.run(["init"]);
    system.person.push(&system.person.path("src"));
    // The port is written differently from how bkfs writes it. The mount must still have the name in fstab.
    system.repo = system.person.repo.replace("127.0.0.1:", "127.0.0.1:0");
    let dir = system.person.dir.path().display();
    system.fstab(&format!(
        "ro,_netdev,snapshot=latest,password-file={dir}/password,config-dir={dir}/config,cache-dir={dir}/cache"
    ));
    let output = system.run(
        r#"
        mount -a
        mount -a
        findmnt -n -o SOURCE "$MNT"
        cat "$MNT/hello"
        umount "$REPO"
        gone "$MNT"
        "#,
    );
    expect(&output, 0, &[]);
    assert_eq!(text(&output.stdout), format!("{}\nhello\n", system.repo));
}

#[test]
fn an_ordinary_user_mounts_through_fusermount3() {
    let system = system!();
    let is_setuid = |name: &str| fs::metadata(name).is_ok_and(|meta| meta.permissions().mode() & 0o4000 != 0);
    if !is_setuid("/usr/bin/fusermount3") {
        crate::skip!("/usr/bin/fusermount3 is not setuid");
    }
    system.give_away();
    let output = system.run(
        r#"
        export BKFS_CONFIG_DIR="$DIR/config" BKFS_CACHE_DIR="$DIR/cache" BKFS_PASSWORD_FILE="$DIR/password"
        export BKFS_REPOSITORY="$REPO" HOME="$DIR"
        user "$DIR/bkfs" mount --background "$MNT"
        user cat "$MNT/latest/hello"
        # Nobody else sees it, not even root.
        fails cat "$MNT/latest/hello" 2>/dev/null
        findmnt -n -o SOURCE,FSTYPE "$MNT"
        user umount "$MNT"
        gone "$MNT"
        user "$DIR/bkfs" mount --background --snapshot latest "$MNT"
        user cat "$MNT/hello"
        user fusermount3 -u "$MNT"
        # In the foreground, until a signal ends it.
        (user() { exec setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"; }; user "$DIR/bkfs" mount "$MNT") &
        eventually mounted "$MNT"
        user ls "$MNT/latest"
        kill "$!"
        wait "$!"
        gone "$MNT"
        # Only the administrator may allow this.
        mount -t tmpfs tmpfs "$DIR/dev"
        echo '# nothing' >"$DIR/dev/fuse.conf"
        [ ! -e /etc/fuse.conf ] || mount --bind "$DIR/dev/fuse.conf" /etc/fuse.conf
        fails user "$DIR/bkfs" mount --allow-other "$MNT"
        gone "$MNT"
        "#,
    );
    expect(&output, 0, &["user_allow_other"]);
    let repo = &system.repo;
    assert_eq!(text(&output.stdout), format!("hello\n{repo} fuse.bkfs\nhello\nhello\nsub\n"));
}

#[test]
fn a_line_in_fstab_lets_users_mount() {
    let system = system!();
    let is_setuid = |name: &str| fs::metadata(name).is_ok_and(|meta| meta.permissions().mode() & 0o4000 != 0);
    if !["/usr/bin/fusermount3", "/usr/bin/mount"].into_iter().all(is_setuid) {
        crate::skip!("mount and fusermount3 are not setuid");
    }
    system.give_away();
    let key = system.person.path("full.key");
    system.fstab(&system.options(&format!("noauto,user,key-file={}", key.display())));
    let output = system.run(
        r#"
        export HOME="$DIR"
        user mount "$MNT"
        user cat "$MNT/latest/hello"
        findmnt -n -o OPTIONS "$MNT" | tr , '\n' | grep -x -e user_id=65534 -e noexec
        user umount "$MNT"
        gone "$MNT"
        "#,
    );
    expect(&output, 0, &[]);
    assert_eq!(text(&output.stdout), "hello\nnoexec\nuser_id=65534\n");
}
