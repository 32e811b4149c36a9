//! What was uploaded a moment ago.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    AccountName,
    chat::{Tenant, UploadedFile},
};

/// Whose upload it is, and of what. Nobody finds those of another tenant, nor of another account, whose
/// files these are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) tenant: Tenant,
    pub(super) account: Option<AccountName>,
    /// Of the content, the name and the type.
    pub(super) digest: [u8; 32],
}

/// The uploads of the last moments, the oldest first. Clones share them.
///
/// All are kept equally long, so those that are over stand at the front.
#[derive(Clone, Debug, Default)]
pub(super) struct Cache(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    files: HashMap<Key, (UploadedFile, Instant)>,
    /// When each was put there; an upload that was replaced has an entry too many.
    order: VecDeque<(Key, Instant)>,
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing that is done under the lock leaves it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The upload of this key, if it is no older than `age`.
    pub(super) fn get(&self, key: &Key, age: Duration) -> Option<UploadedFile> {
        let mut kept = self.lock();
        kept.drop_over(age);
        kept.files.get(key).map(|(file, _)| file.clone())
    }

    /// Forgets the uploads of these keys.
    pub(super) fn forget(&self, keys: &[Key]) {
        let mut kept = self.lock();
        for key in keys {
            kept.files.remove(key);
        }
    }

    /// Keeps an upload whose URL was signed at the time of `granted`; `capacity` of them at most.
    pub(super) fn put(&self, key: Key, file: UploadedFile, granted: Instant, capacity: usize) {
        let mut kept = self.lock();
        kept.order.push_back((key.clone(), granted));
        kept.files.insert(key, (file, granted));
        while kept.order.len() > capacity {
            kept.drop_first();
        }
    }
}

impl Kept {
    fn drop_over(&mut self, age: Duration) {
        while self.order.front().is_some_and(|(_, granted)| granted.elapsed() >= age) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let Some((key, granted)) = self.order.pop_front() else { return };
        // A later one has an entry of its own.
        if self.files.get(&key).is_some_and(|(_, at)| *at == granted) {
            self.files.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::FileKind;

    const AGE: Duration = Duration::from_secs(120);

    fn key(tenant: &str, digest: u8) -> Key {
        Key {
            tenant: Tenant::from_digest([tenant.as_bytes()[0]; 32]),
            account: None,
            digest: [digest; 32],
        }
    }

    fn file(id: &str) -> UploadedFile {
        UploadedFile::new(FileKind::Image, id, "https://b.example/a", "a.png", "image/png")
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_is_found_until_its_time_is_over_and_by_its_tenant_alone() {
        let cache = Cache::default();
        cache.put(key("ann", 1), file("f-1"), Instant::now(), 8);
        tokio::time::advance(AGE - Duration::from_millis(1)).await;
        assert_eq!(cache.get(&key("ann", 1), AGE), Some(file("f-1")));
        assert_eq!(cache.get(&key("bob", 1), AGE), None);
        assert_eq!(cache.get(&key("ann", 2), AGE), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(cache.get(&key("ann", 1), AGE), None);
        assert!(cache.lock().files.is_empty() && cache.lock().order.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_no_more_than_fit_and_the_newest_stay() {
        let cache = Cache::default();
        for digest in 0..100 {
            cache.put(key("ann", digest), file("f"), Instant::now(), 3);
            assert!(cache.lock().files.len() <= 3);
        }
        assert!(cache.get(&key("ann", 96), AGE).is_none());
        assert!(cache.get(&key("ann", 97), AGE).is_some());
        assert!(cache.get(&key("ann", 99), AGE).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_forgotten_one_is_not_found_and_can_be_kept_anew() {
        let cache = Cache::default();
        cache.put(key("ann", 1), file("f-1"), Instant::now(), 8);
        cache.forget(&[key("ann", 1), key("ann", 2)]);
        assert_eq!(cache.get(&key("ann", 1), AGE), None);
        tokio::time::advance(AGE / 2).await;
        cache.put(key("ann", 1), file("f-2"), Instant::now(), 8);
        tokio::time::advance(AGE / 2).await;
        assert_eq!(cache.get(&key("ann", 1), AGE), Some(file("f-2")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_replaced_one_is_as_new_as_the_last() {
        let cache = Cache::default();
        cache.put(key("ann", 1), file("f-1"), Instant::now(), 8);
        tokio::time::advance(AGE / 2).await;
        cache.put(key("ann", 1), file("f-2"), Instant::now(), 8);
        tokio::time::advance(AGE / 2).await;
        assert_eq!(cache.get(&key("ann", 1), AGE), Some(file("f-2")));
        tokio::time::advance(AGE / 2).await;
        assert_eq!(cache.get(&key("ann", 1), AGE), None);
    }
}
