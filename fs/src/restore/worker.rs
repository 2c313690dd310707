//! The threads of a restore: the loop that takes tasks, has them done, and adds the tasks that follow.

use std::sync::Arc;

use bkfs_store::format::tree::{Node, NodeKind};

use super::{
    entry::{Entries, Next},
    file::Files,
    folder::{Folder, Folders, is_valid},
    large::{Finished, LargeFile, NotOpened},
    plan::FilePlan,
    queue::Queue,
    report::Reason,
    restored::Restored,
    shared::Shared,
    small::{Batch, FetchedFile, restore_small},
    task::Task,
};

/// What the threads work with.
pub(super) struct Workers<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) queue: &'a Queue<Task>,
    pub(super) folders: &'a Folders<'a>,
    pub(super) entries: &'a Entries<'a>,
    pub(super) files: &'a Files<'a>,
}

impl Workers<'_> {
    /// Does all tasks, with this many threads.
    pub(super) fn run(&self, threads: usize) {
        std::thread::scope(|scope| {
            for number in 0..threads {
                let worker = || self.work();
                // Fewer threads suffice; without any, this one does the work.
                if std::thread::Builder::new().name(format!("restore-{number}")).spawn_scoped(scope, worker).is_err() {
                    self.work();
                    break;
                }
            }
        });
    }

    /// The loop of each thread.
    fn work(&self) {
        while let Some((task, _working)) = self.queue.pop(|| self.shared.is_stopped()) {
            match task {
                Task::Walk { folder, from } => {
                    self.walk(&folder, from);
                    self.folders.release(folder);
                }
                Task::Entry { folder, node } => {
                    self.nodes(&folder, vec![*node]);
                    self.folders.release(folder);
                }
                Task::OpenLarge { folder, plan } => {
                    self.open_large(&folder, *plan);
                    self.folders.release(folder);
                }
                Task::LargeStep(file) if self.shared.is_stopped() => drop(file),
                Task::LargeStep(file) => self.large_step(file),
                Task::Fetched(files) => self.fetched(files),
            }
        }
        if self.shared.is_stopped() {
            self.queue.close();
        }
    }

    /// Restores some entries of a folder. The rest of the folder is a task of its own, which another thread can take.
    fn walk(&self, folder: &Arc<Folder>, from: u64) {
        let Some(listing) = self.folders.list(folder, from) else { return };
        if let Some(from) = listing.next {
            self.queue.push(Task::Walk { folder: folder.clone(), from });
        }
        self.nodes(folder, listing.nodes);
    }

    fn nodes(&self, folder: &Arc<Folder>, nodes: Vec<Node>) {
        let mut dirs = Vec::new();
        let mut plans = Vec::new();
        // A single folder is entered; several become tasks, which other threads can take.
        let is_single = nodes.len() == 1;
        for node in nodes {
            if self.shared.is_stopped() {
                return;
            }
            if !is_valid(&node) {
                self.folders.skip_invalid(folder);
            } else if node.kind != NodeKind::Directory {
                let Next { contents, entries } = self.entries.restore(folder, node);
                plans.extend(contents);
                self.queue.push_waiting(entries);
            } else if is_single {
                if let Some(folder) = self.folders.create(folder, node) {
                    self.queue.push(Task::Walk { folder, from: 0 });
                }
            } else {
                dirs.push(Task::Entry { folder: folder.clone(), node: Box::new(node) });
            }
        }
        self.queue.push_all(dirs.into_iter());
        self.files(folder, plans);
    }

    /// Restores files of one folder: small ones now, in batches; each large one becomes a task.
    fn files(&self, folder: &Arc<Folder>, plans: Vec<FilePlan>) {
        let mut batch = Batch::default();
        let mut large = Vec::new();
        for plan in plans {
            let Some((ids, bytes)) = plan.small(self.files.window) else {
                large.push(plan);
                continue;
            };
            if batch.is_full(bytes, self.files.window) {
                self.batch(folder, std::mem::take(&mut batch));
            }
            batch.add(plan, ids, bytes);
        }
        // They are opened only when their turn comes: there may be more of them than a process may have open files.
        let task = |plan| Task::OpenLarge { folder: folder.clone(), plan: Box::new(plan) };
        self.queue.push_all(large.into_iter().map(task));
        self.batch(folder, batch);
    }

    fn batch(&self, folder: &Arc<Folder>, batch: Batch) {
        let mut files = batch.fetch(self.shared.source);
        while !self.shared.is_stopped()
            && let Some((plan, chunks)) = files.next()
        {
            let result = restore_small(self.files, folder, &plan, chunks);
            self.settle(folder, &plan.node, plan.is_first_name, 0, result);
        }
    }

    fn fetched(&self, files: Vec<FetchedFile>) {
        for mut file in files {
            if self.shared.is_stopped() {
                return;
            }
            let chunks = file.take_chunks(self.shared.source);
            let result = restore_small(self.files, &file.folder, &file.plan, chunks);
            self.settle(&file.folder, &file.plan.node, file.plan.is_first_name, 0, result);
            self.folders.release(file.into_folder());
        }
    }

    fn open_large(&self, folder: &Arc<Folder>, plan: FilePlan) {
        match LargeFile::open(self.files, folder, plan) {
            Ok(file) => self.large_step(Arc::new(file)),
            Err(not_opened) => {
                let NotOpened { node, is_first_name, reason } = *not_opened;
                self.settle(folder, &node, is_first_name, 0, Err(reason));
            }
        }
    }

    /// Does the next step of a large file. The step after it is a task, which another thread can take at the same time.
    fn large_step(&self, file: Arc<LargeFile>) {
        if let Some(step) = file.next_step(self.files) {
            if step.has_next {
                self.queue.push(Task::LargeStep(file.clone()));
            }
            file.run_step(self.files, &step);
        }
        let Some(file) = Arc::into_inner(file) else { return };
        match file.finish(self.files) {
            Finished::Stopped(folder) => self.folders.release(folder),
            Finished::Overwrite(folder, plan) => self.queue.push(Task::OpenLarge { folder, plan: Box::new(plan) }),
            Finished::Settle { folder, node, is_first_name, counted, result } => {
                self.settle(&folder, &node, is_first_name, counted, result);
                self.folders.release(folder);
            }
        }
    }

    /// Settles an entry, and adds the entries that waited for it.
    fn settle(
        &self,
        folder: &Folder,
        node: &Node,
        is_first_name: bool,
        counted: u64,
        result: Result<Restored, Reason>,
    ) {
        let waiting = self.entries.settle(folder, node, is_first_name, counted, result);
        self.queue.push_waiting(waiting);
    }
}
