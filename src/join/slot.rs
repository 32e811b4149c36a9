//! The answers that are being made, and how one passes from a client that is gone to its next.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use futures_core::Stream;
use http::{Response, response::Parts};
use tokio::sync::oneshot;

use super::kept::Kept;
use crate::{
    Error,
    chat::{ChatEvent, ChatStream},
};

pub(super) type Digest = [u8; 32];

pub(super) type Body = Pin<Box<dyn Stream<Item = Result<ChatEvent, Error>> + Send>>;
pub(super) type Call = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

/// Puts the stream of a response behind a pointer.
pub(super) fn boxed<B: ChatStream + Send + 'static>(response: Response<B>) -> Response<Body> {
    response.map(|body| Box::pin(body) as Body)
}

/// An answer that is being made: what makes it, and what it has said.
pub(super) struct Making {
    stage: Stage,
    /// `None` where it has said more than is kept: nobody can join it.
    kept: Option<Kept>,
    limit: usize,
}

enum Stage {
    Calling(Call),
    Answering(Box<Parts>, Body),
    /// It ended, and what is kept is all of it.
    Over(Box<Parts>),
}

impl fmt::Debug for Making {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Making").finish_non_exhaustive()
    }
}

impl Making {
    pub(super) fn new(call: Call, limit: usize) -> Self {
        Self { stage: Stage::Calling(call), kept: Some(Kept::default()), limit }
    }

    /// Waits for the head of the response.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Parts, Error>> {
        loop {
            match &mut self.stage {
                Stage::Calling(call) => {
                    let (head, body) = ready!(call.as_mut().poll(cx))?.into_parts();
                    self.stage = Stage::Answering(Box::new(head), body);
                }
                Stage::Answering(head, _) | Stage::Over(head) => {
                    return Poll::Ready(Ok(Parts::clone(head)));
                }
            }
        }
    }

    /// The next event of the answer, which is kept.
    pub(super) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<ChatEvent, Error>>> {
        let Stage::Answering(_, body) = &mut self.stage else { return Poll::Ready(None) };
        let event = ready!(body.as_mut().poll_next(cx));
        match &event {
            Some(Ok(event)) => {
                let limit = self.limit;
                self.kept =
                    self.kept.take().and_then(|mut kept| kept.push(event, limit).then_some(kept));
            }
            // What failed is not joined: it is asked for again.
            Some(Err(_)) => self.kept = None,
            None => self.ended(),
        }
        Poll::Ready(event)
    }

    fn ended(&mut self) {
        let over = |head: &mut Box<Parts>| Stage::Over(std::mem::replace(head, empty_head()));
        if let Stage::Answering(head, _) = &mut self.stage {
            self.stage = over(head);
        }
    }

    pub(super) fn can_be_joined(&self) -> bool {
        self.kept.is_some()
    }

    /// What it has said, for a client that has had none of it.
    pub(super) fn said(&mut self) -> Vec<ChatEvent> {
        self.kept.as_mut().map(Kept::events).unwrap_or_default()
    }

    /// Goes on for nobody, until it has ended or can be joined no more.
    fn poll_on(&mut self, cx: &mut Context<'_>) -> Poll<Alone> {
        if let Stage::Calling(_) = self.stage
            && ready!(self.poll_head(cx)).is_err()
        {
            return Poll::Ready(Alone::Failed);
        }
        loop {
            match ready!(self.poll_event(cx)) {
                None => return Poll::Ready(Alone::Over),
                Some(_) if self.can_be_joined() => {}
                Some(_) => return Poll::Ready(Alone::Failed),
            }
        }
    }
}

fn empty_head() -> Box<Parts> {
    Box::new(Response::new(()).into_parts().0)
}

/// How an answer has gone on for nobody.
enum Alone {
    Over,
    Failed,
}

/// The answers that are being made, by what was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Register(Arc<Mutex<HashMap<Digest, Arc<Slot>>>>);

impl Register {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Slot>>> {
        // Nothing that is done under the lock leaves it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<Slot>> {
        self.lock().get(digest).cloned()
    }

    /// The place of an answer that nobody else makes; `None` where somebody does.
    pub(super) fn enter(&self, digest: Digest) -> Option<Place> {
        let slot = match self.lock().entry(digest) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(place) => Arc::clone(place.insert(Arc::default())),
        };
        Some(Place { register: self.clone(), digest, slot, owner: 0 })
    }

    /// The same for an answer that was taken over with its slot, which is this place's from now on.
    pub(super) fn take_over(&self, digest: Digest, slot: Arc<Slot>) -> Place {
        let owner = slot.owner.fetch_add(1, Ordering::AcqRel) + 1;
        // The client before may have been quicker to forget it.
        self.lock().entry(digest).or_insert_with(|| Arc::clone(&slot));
        Place { register: self.clone(), digest, slot, owner }
    }
}

/// Where one answer is known. It is known no more when this is dropped, unless it was taken over.
#[derive(Debug)]
pub(super) struct Place {
    register: Register,
    digest: Digest,
    slot: Arc<Slot>,
    owner: u64,
}

impl Place {
    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.slot.owner.load(Ordering::Acquire) != self.owner {
            return;
        }
        let mut register = self.register.lock();
        if register.get(&self.digest).is_some_and(|slot| Arc::ptr_eq(slot, &self.slot)) {
            register.remove(&self.digest);
        }
        drop(register);
        // Whoever waits for it hears that it is gone.
        self.slot.lock().wish = None;
    }
}

/// What passes between the clients of one answer.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Somebody who asks again waits for it. It is looked at with every event.
    is_wanted: AtomicBool,
    /// How often it was taken over: whose it is.
    owner: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// It goes on for nobody.
    parked: Option<Making>,
    /// Where who asks again waits for it.
    wish: Option<oneshot::Sender<Making>>,
    /// The client that has it, while that waits.
    holder: Option<Waker>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the answer from where it goes on for nobody.
    pub(super) fn take(&self) -> Option<Making> {
        self.lock().parked.take()
    }

    /// Asks the client that has it to hand it over.
    pub(super) fn wish(&self) -> oneshot::Receiver<Making> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        // That client may have gone just now.
        match state.parked.take() {
            Some(making) => drop(sender.send(making)),
            None => state.wish = Some(sender),
        }
        self.is_wanted.store(true, Ordering::Release);
        if let Some(holder) = state.holder.take() {
            holder.wake();
        }
        receiver
    }

    /// Whether somebody who asks again waits for it.
    #[inline]
    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Acquire)
    }

    /// Notes who is to be woken when it is wanted.
    pub(super) fn waits(&self, waker: &Waker) {
        let mut state = self.lock();
        if !state.holder.as_ref().is_some_and(|holder| holder.will_wake(waker)) {
            state.holder = Some(waker.clone());
        }
    }

    /// Gives it to who waits for it; gives it back where nobody does any more.
    pub(super) fn hand_over(&self, making: Making) -> Result<(), Making> {
        self.is_wanted.store(false, Ordering::Release);
        match self.lock().wish.take() {
            Some(wish) => wish.send(making),
            None => Err(making),
        }
    }

    /// Has it go on for nobody, unless somebody waits for it.
    pub(super) fn park(&self, making: Making) {
        if let Err(making) = self.hand_over(making) {
            self.lock().parked = Some(making);
        }
    }

    /// Goes on for nobody; ends when that can end.
    pub(super) fn poll_parked(&self, cx: &mut Context<'_>) -> Poll<Parked> {
        let mut state = self.lock();
        let Some(making) = &mut state.parked else { return Poll::Ready(Parked::Taken) };
        match ready!(making.poll_on(cx)) {
            Alone::Over => Poll::Ready(Parked::Over),
            Alone::Failed => {
                state.parked = None;
                Poll::Ready(Parked::Failed)
            }
        }
    }
}

/// What became of an answer that went on for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parked {
    /// Somebody has joined it.
    Taken,
    /// It is there as a whole.
    Over,
    Failed,
}
