//! How a stream ends, alike for everything that wraps one.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::{ChatEvent, ChatStream, stream::truncated};
use crate::{Error, budget::Budget};

/// Reads a stream so that what comes out of it begins and ends as the
/// [contract](ChatEvent#the-contract) says, whatever the stream does.
///
/// Every wrapper reads what it wraps through one of these: so a missing end, an item behind the
/// end and a second [`Started`](ChatEvent::Started) mean the same everywhere, and no wrapper
/// looks for them itself. Most events cost a few comparisons and stay where they lie.
///
/// It also keeps a wrapper from reading a stream that always has more for ever: see [`Budget`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    state: State,
    budget: Budget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has come.
    Fresh,
    Open,
    /// [`Finished`](ChatEvent::Finished) has come; token counts may follow.
    Finished,
    /// The stream is not polled again.
    Over,
}

impl Ending {
    pub(crate) const fn new() -> Self {
        Self { state: State::Fresh, budget: Budget::new() }
    }

    /// The next item of `stream`. An end without a terminal item is [`truncated`]; after an `Err`
    /// or the end, `stream` is not polled again.
    #[inline]
    pub(crate) fn poll_next<S: ChatStream>(
        &mut self,
        mut stream: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<ChatEvent, Error>>> {
        while ready!(self.poll_goes_on(cx)) {
            let mut polled = stream.as_mut().poll_next(cx);
            if self.passes(&mut polled) {
                return polled;
            }
        }
        Poll::Ready(None)
    }

    /// The first half of [`poll_next`](Self::poll_next), for who would not have the item moved once
    /// more: whether the stream is to be polled. `false` is its end.
    #[inline]
    pub(crate) fn poll_goes_on(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.state == State::Over {
            return Poll::Ready(false);
        }
        ready!(self.budget.poll_left(cx));
        self.budget.spend_item();
        Poll::Ready(true)
    }

    /// The second half: whether what the stream gave is to be handed on. Otherwise it is to be
    /// polled again, by way of the first half.
    #[inline]
    pub(crate) fn passes(&mut self, polled: &mut Poll<Option<Result<ChatEvent, Error>>>) -> bool {
        match polled {
            Poll::Ready(Some(Ok(event))) if self.state == State::Open && !is_turn(event) => true,
            Poll::Pending => {
                self.budget.renew();
                true
            }
            Poll::Ready(item) => self.turns(item),
        }
    }

    /// [`passes`](Self::passes) where the stream begins, ends or errs.
    #[inline(never)]
    fn turns(&mut self, item: &mut Option<Result<ChatEvent, Error>>) -> bool {
        let (passes, next) = match (self.state, &*item) {
            (_, None) => {
                *item = self.ends();
                return true;
            }
            (State::Over, _) => (false, State::Over),
            (state, Some(Err(_))) => (state != State::Finished, State::Over),
            (State::Finished, Some(Ok(event))) => (event.may_follow_the_end(), State::Finished),
            (_, Some(Ok(ChatEvent::Finished(_)))) => (true, State::Finished),
            (state, Some(Ok(event))) => {
                (state == State::Fresh || !matches!(event, ChatEvent::Started(_)), State::Open)
            }
        };
        self.state = next;
        #[cfg(feature = "tracing")]
        if !passes {
            tracing::debug!("an item that must not come where it came in a stream is left out");
        }
        passes
    }

    fn ends(&mut self) -> Option<Result<ChatEvent, Error>> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Fresh | State::Open => Some(Err(truncated())),
            State::Finished | State::Over => None,
        }
    }

    /// How many items there may be, where `inner` is what the stream says of itself: an item may
    /// be left out, and one added.
    #[cfg(any(feature = "session", feature = "tool-call"))]
    pub(crate) fn size_hint(self, inner: (usize, Option<usize>)) -> (usize, Option<usize>) {
        match self.state {
            State::Over => (0, Some(0)),
            State::Finished => (0, inner.1),
            State::Fresh | State::Open => (1, inner.1.and_then(|most| most.checked_add(1))),
        }
    }
}

/// Whether `event` may come at one place of a stream only.
#[inline]
fn is_turn(event: &ChatEvent) -> bool {
    matches!(event, ChatEvent::Started(_) | ChatEvent::Finished(_))
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use futures_util::stream;

    use super::*;
    use crate::{
        ErrorKind,
        chat::{Conversation, FinishReason, Usage},
    };

    type Item = Result<ChatEvent, Error>;

    fn text(text: &'static str) -> Item {
        Ok(ChatEvent::Text(text.into()))
    }

    fn started(chat: &'static str) -> Item {
        Ok(ChatEvent::Started(Conversation::new(chat).into()))
    }

    fn usage() -> Item {
        Ok(ChatEvent::Usage(Usage::new(1, 2)))
    }

    fn finished() -> Item {
        Ok(ChatEvent::Finished(FinishReason::Stop))
    }

    fn error() -> Item {
        Err(Error::new(ErrorKind::Quota, "used up"))
    }

    /// What comes out, and how many times the stream was polled.
    fn read(items: Vec<Item>) -> (Vec<String>, usize) {
        let mut polls = 0;
        let mut items = items.into_iter();
        let mut stream = pin!(stream::poll_fn(|_| {
            polls += 1;
            Poll::Ready(items.next())
        }));
        let mut ending = Ending::new();
        let mut read = Vec::new();
        tokio_test::block_on(async {
            while let Some(item) = poll_fn(|cx| ending.poll_next(stream.as_mut(), cx)).await {
                read.push(shown(&item));
            }
            for _ in 0..2 {
                assert!(poll_fn(|cx| ending.poll_next(stream.as_mut(), cx)).await.is_none());
            }
        });
        (read, polls)
    }

    fn shown(item: &Item) -> String {
        match item {
            Ok(event) => format!("{event:?}"),
            Err(error) => format!("{error}"),
        }
    }

    fn all(items: &[Item]) -> Vec<String> {
        items.iter().map(shown).collect()
    }

    /// What is taken of a stream that always has more, between two times that it waits.
    #[test]
    fn a_stream_that_always_has_more_is_left_for_others() {
        let mut taken = 0;
        let mut stream = pin!(stream::poll_fn(|_| {
            taken += 1;
            // Left out, all but the first.
            Poll::Ready(Some(started("c")))
        }));
        let mut ending = Ending::new();
        let mut task = tokio_test::task::spawn(());
        let mut poll = || task.enter(|cx, _| ending.poll_next(stream.as_mut(), cx));
        assert!(poll().is_ready());
        for _ in 0..3 {
            assert!(poll().is_pending());
        }
        assert!(task.is_woken());
        assert_eq!(taken, 3 * 256);
    }

    #[test]
    fn what_is_right_passes() {
        let items = || vec![started("c"), text("a"), usage(), finished(), usage(), usage()];
        assert_eq!(read(items()), (all(&items()), 7));
        let items = || vec![text("a"), error()];
        assert_eq!(read(items()), (all(&items()), 2));
        assert_eq!(read(vec![error()]), (all(&[error()]), 1));
        assert_eq!(read(vec![finished()]), (all(&[finished()]), 2));
    }

    #[test]
    fn a_missing_end_is_told() {
        let cut = || Err(truncated());
        assert_eq!(read(vec![]), (all(&[cut()]), 1));
        assert_eq!(read(vec![text("a")]), (all(&[text("a"), cut()]), 2));
        assert_eq!(read(vec![started("c"), usage()]), (all(&[started("c"), usage(), cut()]), 3));
    }

    #[test]
    fn nothing_comes_after_the_end() {
        let long = vec![finished(), text("b"), usage(), started("c"), finished(), usage()];
        assert_eq!(read(long), (all(&[finished(), usage(), usage()]), 7));
        assert_eq!(read(vec![finished(), error(), usage()]), (all(&[finished()]), 2));
        assert_eq!(read(vec![text("a"), error(), finished()]), (all(&[text("a"), error()]), 2));
    }

    #[test]
    fn a_start_in_the_middle_is_left_out() {
        let items = vec![started("c"), started("d"), text("a"), started("e"), finished()];
        assert_eq!(read(items).0, all(&[started("c"), text("a"), finished()]));
        assert_eq!(read(vec![usage(), started("c"), finished()]).0, all(&[usage(), finished()]));
    }
}
