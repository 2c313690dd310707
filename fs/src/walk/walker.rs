//! Listing directories and finding those below: what the walk's threads and its consumer share.

use std::{
    io,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    sync::Arc,
    time::Instant,
};

use bkfs_store::format::tree::NodeKind;

use super::{
    list::{self, Entry, Lister, Observer, SourceDir},
    queue::ListQueue,
    task::{ListTask, Listed},
};
use crate::{changes::Changes, metadata};

/// The entries of a larger directory are looked at in batches of this many.
pub(super) const BATCH: usize = 4096;

/// How many folders in each other a walk enters. Each one on the way is held open, and takes memory for the way to it.
pub const DEPTH_MAX: usize = 4096;

/// What all threads of a walk share.
pub(super) struct Walker {
    lister: Lister,
    pub queue: ListQueue,
    observer: Option<Arc<dyn Observer>>,
}

impl Walker {
    /// A walker that has found nothing yet.
    pub fn new(lister: Lister, queue: ListQueue, observer: Option<Arc<dyn Observer>>) -> Self {
        Self { lister, queue, observer }
    }

    /// See [`crate::exclude::Excludes::unused_patterns`].
    pub fn unused_patterns(&self) -> Vec<String> {
        self.lister.unused_patterns()
    }

    /// The work of one thread: lists what the consumer will want soonest. Threads that are not among the first wait
    /// until listing is slow.
    pub fn run(&self, is_first: bool) {
        while let Some(task) = self.queue.next(is_first) {
            if !task.claim() {
                continue;
            }
            let since = Instant::now();
            let listed = self.open_and_list(&task, task.changes.clone());
            self.queue.note_listed(&listed, since.elapsed());
            task.finish(listed);
        }
    }

    /// Opens a task's directory and lists it, as far as `changes` say.
    pub fn open_and_list(&self, task: &ListTask, changes: Option<Arc<Changes>>) -> io::Result<Listed> {
        let parent = task.take_parent()?;
        if task.order.len() > DEPTH_MAX {
            let reason = format!(
                "it is in more than {DEPTH_MAX} other folders, the most that a push enters; push it \
                by itself, with -C"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let is_ancestor = !task.is_included && !parent.is_included;
        let follow = is_ancestor || task.plan.as_ref().is_some_and(|plan| plan.follow);
        let name = metadata::c_name(&task.name)?;
        let handle = list::open_dir(parent.as_fd(), &name, follow, !task.is_included)?;
        let is_named = task.plan.as_ref().is_some_and(|p| p.is_included);
        let mount_root = if task.device == parent.device {
            parent.mount_root.clone()
        } else {
            self.lister.absolute(task.path()).as_os_str().as_bytes().into()
        };
        let dir = SourceDir {
            handle,
            path: task.path().clone(),
            mount_root,
            device: task.device,
            mount: task.mount,
            root_device: if is_named { Some(task.device) } else { parent.root_device },
            plan: task.plan.clone(),
            is_included: task.is_included,
            changes,
        };
        drop(parent);
        self.list(dir, task.order.clone())
    }

    /// Lists an open directory. A large one gets only its names; [`Walker::next_batch`] looks at them.
    pub fn list(&self, mut dir: SourceDir, order: Box<[u32]>) -> io::Result<Listed> {
        if dir.changes.is_none()
            && let Some(observer) = &self.observer
        {
            observer.entering(&dir);
        }
        let looked_at = Instant::now();
        let mut names = self.lister.names(&mut dir)?;
        let dir = Arc::new(dir);
        let mut bytes = names.memory();
        let (entries, tasks) = if names.len() > BATCH {
            names.sort_by_name();
            (Vec::new(), Vec::new())
        } else {
            bytes = names.len() * (size_of::<Entry>() + 32);
            self.look(&dir, std::mem::take(&mut names).take(BATCH), &order, 0)
        };
        Ok(Listed {
            dir,
            looked_at,
            order,
            entries: entries.into_iter(),
            names,
            tasks: tasks.into_iter(),
            next: 0,
            bytes,
        })
    }

    /// Looks at the next names of a large directory.
    pub fn next_batch(&self, listed: &mut Listed) {
        let names = listed.names.take(BATCH);
        let (entries, tasks) = self.look(&listed.dir, names, &listed.order, listed.next);
        listed.entries = entries.into_iter();
        listed.tasks = tasks.into_iter();
    }

    /// Looks at the named entries, and queues the directories among them.
    fn look<'a>(
        &self,
        dir: &Arc<SourceDir>,
        names: impl Iterator<Item = &'a [u8]>,
        order: &[u32],
        first: u32,
    ) -> (Vec<Entry>, Vec<Arc<ListTask>>) {
        let entries = self.lister.entries(dir, names);
        let mut tasks = Vec::new();
        for (number, entry) in (first..).zip(&entries) {
            if entry.stat.kind != NodeKind::Directory {
                continue;
            }
            let plan = dir.child_plan(&entry.name);
            if plan.is_none() && self.lister.is_other_file_system(dir, &entry.stat) {
                continue;
            }
            let order = order.iter().copied().chain([number]).collect();
            let plan = plan.map(|plan| Arc::new(plan.clone()));
            tasks.push(Arc::new(ListTask::child(dir, order, entry, plan)));
        }
        let whole: Vec<_> = tasks.iter().filter(|task| task.is_whole()).cloned().collect();
        self.queue.add(&whole);
        (entries, tasks)
    }
}
