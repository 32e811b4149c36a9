//! The messages of a request.

use std::{fmt, ops::Index, sync::Arc};

use super::Message;

/// A list of messages that is cheap to clone.
///
/// Clones share the list, and every list shares its messages. Adding one to a list of 10,000 copies
/// no message, and neither does cutting the list in two. Changing one copies that one alone, even
/// while somebody else holds a clone.
///
/// It reads as a slice of shared messages.
///
/// ```
/// use tower_qwen::chat::{Message, Messages, Role};
///
/// let mut messages = Messages::from(vec![Message::new(Role::User, "Hello")]);
/// let kept = messages.clone();
/// messages.push(Message::new(Role::Assistant, "Hi!"));
/// messages.get_mut(0).expect("there are two").name = Some("ann".into());
/// assert_eq!((messages.len(), kept.len()), (2, 1));
/// assert_eq!(kept[0].name, None);
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct Messages(
    /// `None` is the empty list.
    Option<Arc<Vec<Arc<Message>>>>,
);

impl Messages {
    /// An empty list. Nothing is allocated.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// Adds a message at the end.
    pub fn push(&mut self, message: impl Into<Arc<Message>>) {
        self.list_with_room(1).push(message.into());
    }

    /// Puts a message before the one at `index`.
    ///
    /// # Panics
    ///
    /// If `index` is larger than the list is long.
    pub fn insert(&mut self, index: usize, message: impl Into<Arc<Message>>) {
        self.list_with_room(1).insert(index, message.into());
    }

    /// The message at `index`, to change it; it is copied first where anybody else holds it.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Message> {
        if index >= self.len() {
            return None;
        }
        self.list().get_mut(index).map(Arc::make_mut)
    }

    /// The last message, to change it; see [`get_mut`](Messages::get_mut).
    pub fn last_mut(&mut self) -> Option<&mut Message> {
        self.get_mut(self.len().checked_sub(1)?)
    }

    /// Puts what `replace` gives for a message in its place; what it gives `None` for stays
    /// shared.
    pub fn replace_each(&mut self, mut replace: impl FnMut(&Message) -> Option<Message>) {
        for index in 0..self.len() {
            if let Some(message) = replace(&self[index]) {
                self.list()[index] = Arc::new(message);
            }
        }
    }

    /// Takes the messages from `at` on out of the list.
    ///
    /// # Panics
    ///
    /// If `at` is larger than the list is long.
    #[must_use = "the messages are no longer in this list"]
    pub fn split_off(&mut self, at: usize) -> Self {
        if at == 0 {
            return std::mem::take(self);
        }
        if at == self.len() {
            return Self::new();
        }
        Self::from(self.list().split_off(at))
    }

    /// Adds the messages of `other` at the end.
    pub fn append(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
        } else if let Some(other) = other.0 {
            let list = self.list_with_room(other.len());
            match Arc::try_unwrap(other) {
                Ok(mut other) => list.append(&mut other),
                Err(shared) => list.extend_from_slice(&shared),
            }
        }
    }

    /// Whether `other` is a clone of this list that neither has written to.
    #[must_use]
    pub fn is_shared_with(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (None, None) => true,
            _ => false,
        }
    }

    fn list(&mut self) -> &mut Vec<Arc<Message>> {
        self.list_with_room(0)
    }

    /// The list, to write to; where it is shared it is copied, with room for `more` messages, so
    /// that it need not grow at once.
    fn list_with_room(&mut self, more: usize) -> &mut Vec<Arc<Message>> {
        let list = self.0.get_or_insert_default();
        if Arc::get_mut(list).is_none() {
            let mut own = Vec::with_capacity(list.len() + more);
            own.extend_from_slice(list);
            *list = Arc::new(own);
        }
        Arc::make_mut(list)
    }
}

impl std::ops::Deref for Messages {
    type Target = [Arc<Message>];

    fn deref(&self) -> &[Arc<Message>] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl From<Vec<Arc<Message>>> for Messages {
    fn from(list: Vec<Arc<Message>>) -> Self {
        Self((!list.is_empty()).then(|| Arc::new(list)))
    }
}

impl From<Vec<Message>> for Messages {
    fn from(list: Vec<Message>) -> Self {
        list.into_iter().collect()
    }
}

impl FromIterator<Message> for Messages {
    fn from_iter<I: IntoIterator<Item = Message>>(messages: I) -> Self {
        messages.into_iter().map(Arc::new).collect()
    }
}

impl FromIterator<Arc<Message>> for Messages {
    fn from_iter<I: IntoIterator<Item = Arc<Message>>>(messages: I) -> Self {
        Self::from(messages.into_iter().collect::<Vec<_>>())
    }
}

impl Extend<Message> for Messages {
    fn extend<I: IntoIterator<Item = Message>>(&mut self, messages: I) {
        messages.into_iter().for_each(|message| self.push(message));
    }
}

impl<'a> IntoIterator for &'a Messages {
    type Item = &'a Arc<Message>;
    type IntoIter = std::slice::Iter<'a, Arc<Message>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The history of a [`ChatRequest`](super::ChatRequest), oldest message first, in two lists:
/// what the upstream chat has seen, and what is fresh.
///
/// Everything is fresh until somebody finds the chat that a history continues. The session layer
/// moves what that chat holds to [`seen`](History::seen). The dedup layer drops it there. An
/// adapter sends what is left in both. There is no position that others would have to keep right,
/// so a layer can add a message to either list:
///
/// - what it adds to [`fresh`](History::fresh) is sent with this turn;
/// - what it adds to `seen` goes only where nothing is left out: to an upstream without chats, or
///   with a replay into a new chat.
///
/// Reading goes over both:
///
/// ```
/// use tower_qwen::chat::{History, Message, Role};
///
/// let mut history = History::new(vec![
///     Message::new(Role::User, "Hello"),
///     Message::new(Role::Assistant, "Hi!"),
///     Message::new(Role::User, "How are you?"),
/// ]);
/// history.mark_seen(2);
/// history.insert_first(Message::new(Role::System, "Be brief."));
/// assert_eq!((history.seen.len(), history.fresh.len()), (3, 1));
/// assert_eq!(history.iter().next_back().expect("four").text(), "How are you?");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct History {
    /// What the upstream chat that the turn goes to holds already.
    pub seen: Messages,
    /// What it does not.
    pub fresh: Messages,
}

impl History {
    /// A history of which nothing was seen.
    #[must_use]
    pub fn new(messages: impl Into<Messages>) -> Self {
        Self { seen: Messages::new(), fresh: messages.into() }
    }

    /// All messages, what was seen first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Message> + Clone {
        self.shared().map(|message| &**message)
    }

    /// All messages, as they are shared.
    pub fn shared(&self) -> impl DoubleEndedIterator<Item = &Arc<Message>> + Clone {
        self.seen.iter().chain(self.fresh.iter())
    }

    /// How many messages there are in both lists.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.len() + self.fresh.len()
    }

    /// Whether there is none in either.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty() && self.fresh.is_empty()
    }

    /// The message at `index`, counted over both lists.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Message> {
        match index.checked_sub(self.seen.len()) {
            None => self.seen.get(index),
            Some(index) => self.fresh.get(index),
        }
        .map(|message| &**message)
    }

    /// The message at `index`, to change it; see [`Messages::get_mut`].
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Message> {
        match index.checked_sub(self.seen.len()) {
            None => self.seen.get_mut(index),
            Some(index) => self.fresh.get_mut(index),
        }
    }

    /// The last message.
    #[must_use]
    pub fn last(&self) -> Option<&Message> {
        self.iter().next_back()
    }

    /// Adds a message at the end. It is fresh.
    pub fn push(&mut self, message: impl Into<Arc<Message>>) {
        self.fresh.push(message);
    }

    /// Puts a message before all others: among what was seen, if anything was, else among what is
    /// fresh. So it is sent with the first turn of a chat and, where the dedup layer is below,
    /// not again with the later ones.
    pub fn insert_first(&mut self, message: impl Into<Arc<Message>>) {
        let first = if self.seen.is_empty() { &mut self.fresh } else { &mut self.seen };
        first.insert(0, message);
    }

    /// Takes the first `count` messages as seen and all others as fresh, whatever was said of
    /// them before; all are seen where there are fewer.
    pub fn mark_seen(&mut self, count: usize) {
        self.forget_seen();
        let fresh = self.fresh.split_off(count.min(self.fresh.len()));
        self.seen = std::mem::replace(&mut self.fresh, fresh);
    }

    /// Takes every message as fresh, for a chat that holds none of them.
    pub fn forget_seen(&mut self) {
        if !self.seen.is_empty() {
            let fresh = std::mem::take(&mut self.fresh);
            self.fresh = std::mem::take(&mut self.seen);
            self.fresh.append(fresh);
        }
    }
}

/// As [`History::get`].
///
/// # Panics
///
/// If there is no such message.
impl Index<usize> for History {
    type Output = Message;

    fn index(&self, index: usize) -> &Message {
        self.get(index).expect("the index is within the history")
    }
}

impl<M: Into<Messages>> From<M> for History {
    fn from(messages: M) -> Self {
        Self::new(messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Role;

    fn history(texts: &[&str]) -> History {
        let message = |text: &&str| Message::new(Role::User, *text);
        History::new(texts.iter().map(message).collect::<Messages>())
    }

    fn texts(messages: &[Arc<Message>]) -> Vec<String> {
        messages.iter().map(|message| message.text().to_string()).collect()
    }

    #[test]
    fn a_message_is_added_to_the_right_list() {
        let mut one = history(&["a", "b", "c"]);
        one.insert_first(Message::new(Role::System, "s"));
        assert_eq!(texts(&one.fresh), ["s", "a", "b", "c"]);
        one.mark_seen(3);
        one.insert_first(Message::new(Role::System, "t"));
        one.push(Message::new(Role::User, "d"));
        assert_eq!(texts(&one.seen), ["t", "s", "a", "b"]);
        assert_eq!(texts(&one.fresh), ["c", "d"]);
        assert_eq!(one.len(), 6);
        assert_eq!((one[0].text(), one[4].text()), ("t".into(), "c".into()));
        assert_eq!(one.get(6), None);
        assert_eq!(one.last().expect("six").text(), "d");
    }

    #[test]
    fn marks_are_moved_and_taken_back() {
        let mut one = history(&["a", "b", "c"]);
        one.mark_seen(2);
        one.mark_seen(1);
        assert_eq!(
            (texts(&one.seen), texts(&one.fresh)),
            (vec!["a".into()], vec!["b".into(), "c".into()])
        );
        one.mark_seen(9);
        assert_eq!((one.seen.len(), one.fresh.len()), (3, 0));
        one.forget_seen();
        assert_eq!(one, history(&["a", "b", "c"]));
        one.mark_seen(0);
        assert_eq!(one, history(&["a", "b", "c"]));
        let mut none = History::default();
        none.mark_seen(1);
        assert!(none.is_empty());
    }

    #[test]
    fn a_clone_keeps_what_the_other_writes_over() {
        let one = history(&["a", "b"]);
        let mut other = one.clone();
        assert!(one.fresh.is_shared_with(&other.fresh));
        other.get_mut(0).expect("two").name = Some("n".into());
        assert_eq!(one[0].name, None);
        assert!(Arc::ptr_eq(&one.fresh[1], &other.fresh[1]), "the other message is shared still");
        assert!(!Arc::ptr_eq(&one.fresh[0], &other.fresh[0]));
        assert!(other.get_mut(2).is_none());
    }

    #[test]
    fn lists_are_joined_and_cut() {
        let mut list = history(&["a", "b", "c"]).fresh;
        let kept = list.clone();
        let end = list.split_off(1);
        assert_eq!((texts(&list), texts(&end)), (vec!["a".into()], vec!["b".into(), "c".into()]));
        list.append(end.clone());
        assert_eq!(list, kept);
        let mut empty = Messages::new();
        empty.append(kept.clone());
        assert!(empty.is_shared_with(&kept));
        assert!(empty.split_off(3).is_empty());
        assert_eq!(empty.split_off(0), kept);
        assert!(empty.is_empty());
        list.replace_each(|message| (message.text() == "b").then(|| Message::new(Role::User, "B")));
        assert_eq!(texts(&list), ["a", "B", "c"]);
        assert!(Arc::ptr_eq(&list[0], &kept[0]));
        list.last_mut().expect("three").name = Some("n".into());
        assert_eq!((list[2].name.as_deref(), kept[2].name.as_deref()), (Some("n"), None));
        assert!(Arc::ptr_eq(&list[0], &kept[0]) && empty.last_mut().is_none());
    }
}
