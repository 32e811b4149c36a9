//! Accounts in Redis, for several proxies that have the same keys.
//!
//! Each adds what was used there, and is told the sum: what others have added is known within half a
//! second to a proxy that a key asks. What a key may do at once or in a minute is each proxy's own.

use std::{fmt, time::Duration};

use jiff::civil::Date;
use redis::{Client, Connection, ErrorKind, Pipeline, RedisError, RedisResult};

use super::{
    super::keys::KeyId,
    book::{Book, Used},
    keep::{Row, Shelf},
};

/// What the names of all keys in Redis begin with.
const PREFIX: &str = "tower-qwen:usage:";

/// The set of all accounts.
const ALL: &str = "tower-qwen:usage";

/// How long Redis may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// For how long the sum of a time is kept from its last change on, in seconds: longer than a month, so
/// that nobody begins it anew.
const KEPT: i64 = 70 * 24 * 60 * 60;

/// The fields of an account's hash.
const FIELDS: [&str; 5] =
    ["requests", "failed", "prompt_tokens", "completion_tokens", "estimated_tokens"];

/// Accounts that others add to as well.
pub(super) struct Shared {
    client: Client,
    /// `None` before it is there, and where it has failed.
    connection: Option<Connection>,
}

impl Shared {
    /// Those in the Redis at `url`.
    ///
    /// # Errors
    ///
    /// If it is no URL; it is not shown, for it may hold a password.
    pub(super) fn new(url: &str) -> Result<Self, String> {
        let client = Client::open(url).map_err(|_| "--redis: it is not a URL".to_owned())?;
        Ok(Self { client, connection: None })
    }

    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, String> {
        let with = || {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => {
                    let connection = self.client.get_connection_with_timeout(TIMEOUT)?;
                    connection.set_read_timeout(Some(TIMEOUT))?;
                    connection.set_write_timeout(Some(TIMEOUT))?;
                    connection
                }
            };
            let result = work(&mut connection)?;
            self.connection = Some(connection);
            Ok(result)
        };
        // Its own words may hold the address, which the operator has given.
        with().map_err(|error: RedisError| format!("Redis does not answer: {error}"))
    }
}

/// The sums of an account as Redis gives them: the hash's fields, the day's and the month's.
type Sums = (Vec<Option<u64>>, Option<u64>, Option<u64>);

fn name_of(id: KeyId, unit: &str, used: &Used) -> String {
    format!("{PREFIX}{id}:{unit}:{}", used.from)
}

/// Adds to `pipe` what asks for the sums of `id`, in the day and the month of `book`.
fn ask(pipe: &mut Pipeline, id: KeyId, book: &Book) {
    pipe.hmget(format!("{PREFIX}{id}"), &FIELDS[..]);
    pipe.get(name_of(id, "day", &book.day));
    pipe.get(name_of(id, "month", &book.month));
}

fn book_of((fields, day, month): Sums, from: [Date; 2]) -> Book {
    let field = |at: usize| fields.get(at).copied().flatten().unwrap_or_default();
    let used = |from, tokens: Option<u64>| Used { from, tokens: tokens.unwrap_or_default() };
    Book {
        requests: field(0),
        failed: field(1),
        prompt_tokens: field(2),
        completion_tokens: field(3),
        estimated_tokens: field(4),
        day: used(from[0], day),
        month: used(from[1], month),
    }
}

impl Shelf for Shared {
    fn is_shared(&self) -> bool {
        true
    }

    fn load(&mut self, today: &Book) -> Result<Vec<Row>, String> {
        self.with(|connection| {
            let ids: Vec<String> = redis::cmd("SMEMBERS").arg(ALL).query(connection)?;
            let ids: Vec<_> = ids.iter().filter_map(|id| KeyId::written(id)).collect();
            let rows = ids.into_iter().map(|id| Row { id, book: *today, base: *today });
            sums(connection, &rows.collect::<Vec<_>>())
        })
    }

    /// All of it, or nothing. Where the answer is lost on its way it is not known which, and the same is
    /// added another time: then an account says too much, and never too little.
    fn write(&mut self, rows: &[Row]) -> Result<Vec<Row>, String> {
        self.with(|connection| sums(connection, rows))
    }
}

/// Adds what is new of `rows`; their sums then.
fn sums(connection: &mut Connection, rows: &[Row]) -> RedisResult<Vec<Row>> {
    let mut pipe = redis::pipe();
    pipe.atomic();
    for Row { id, book, base } in rows {
        let new = book.without(base);
        let hash = format!("{PREFIX}{id}");
        let counts = [
            new.requests,
            new.failed,
            new.prompt_tokens,
            new.completion_tokens,
            new.estimated_tokens,
        ];
        for (field, count) in FIELDS.iter().zip(counts).filter(|(_, count)| *count > 0) {
            pipe.hincr(&hash, *field, count).ignore();
            pipe.sadd(ALL, id.as_str()).ignore();
        }
        for (unit, used) in [("day", &new.day), ("month", &new.month)] {
            if used.tokens > 0 {
                let name = name_of(*id, unit, used);
                pipe.incr(&name, used.tokens).ignore();
                pipe.expire(&name, KEPT).ignore();
            }
        }
    }
    for Row { id, book, .. } in rows {
        ask(&mut pipe, *id, book);
    }
    let answers: Vec<redis::Value> = pipe.query(connection)?;
    let too_few = || RedisError::from((ErrorKind::UnexpectedReturnType, "too few answers"));
    let mut answers = answers.into_iter();
    rows.iter()
        .map(|Row { id, book, .. }| {
            let mut next = || answers.next().ok_or_else(too_few);
            let sums: Sums = (
                redis::from_redis_value(next()?)?,
                redis::from_redis_value(next()?)?,
                redis::from_redis_value(next()?)?,
            );
            let book = book_of(sums, [book.day.from, book.month.from]);
            Ok(Row { id: *id, book, base: book })
        })
        .collect()
}

/// Nothing of the URL.
impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
