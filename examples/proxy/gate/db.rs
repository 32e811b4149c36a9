//! Accounts in a file: an embedded database, whose commits are whole or nothing after a crash.

use std::{
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use super::{
    super::keys::KeyId,
    book::Book,
    keep::{Row, Shelf},
};

/// The accounts by id, each a book in JSON.
const BOOKS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("books");

/// A file of accounts.
pub(super) struct Db<F = fn(&Path) -> Result<Database, DatabaseError>> {
    path: PathBuf,
    open: F,
    /// `None` before it is opened, and where it has failed: then it is opened anew, since one that could
    /// not write takes nothing any more.
    database: Option<Database>,
}

impl Db {
    /// That at `path`, which is made where there is none.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, open: open_file, database: None }
    }
}

/// Nobody else reads who asked for how much.
fn open_file(path: &Path) -> Result<Database, DatabaseError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    Database::builder().create_file(options.open(path)?)
}

impl<F: Fn(&Path) -> Result<Database, DatabaseError>> Db<F> {
    /// What `work` makes of the database.
    fn with<T>(
        &mut self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => (self.open)(&self.path)?,
        };
        let result = work(&database);
        if result.is_ok() {
            self.database = Some(database);
        }
        result
    }

    fn said(&self, what: &str, error: &redb::Error) -> String {
        let path = self.path.display();
        match error {
            redb::Error::DatabaseAlreadyOpen => {
                format!("{path} is in use by another process; give each proxy a file of its own")
            }
            // Of a file that is no database as well, which the kind tells.
            redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                format!("{path} is no file of accounts")
            }
            error => format!("cannot {what} {path}: {error}"),
        }
    }
}

impl<F> Shelf for Db<F>
where
    F: Fn(&Path) -> Result<Database, DatabaseError> + Send,
{
    fn load(&mut self, _: &Book) -> Result<Vec<Row>, String> {
        let read = self.with(|database| {
            let table = match database.begin_read()?.open_table(BOOKS) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let rows = table.iter()?.map(|row| {
                let (id, book) = row?;
                Ok((id.value().to_owned(), book.value().to_vec()))
            });
            rows.collect::<Result<Vec<_>, redb::Error>>()
        });
        let rows = read.map_err(|error| self.said("read", &error))?;
        let row = |(id, book): (String, Vec<u8>)| {
            let found = KeyId::written(&id).zip(serde_json::from_slice::<Book>(&book).ok());
            let (id, book) = found.ok_or_else(|| {
                format!("{} holds an account that cannot be read: {id:?}", self.path.display())
            })?;
            Ok(Row { id, book, base: book })
        };
        rows.into_iter().map(row).collect()
    }

    fn write(&mut self, rows: &[Row]) -> Result<Vec<Row>, String> {
        let written = self.with(|database| {
            let transaction = database.begin_write()?;
            {
                let mut table = transaction.open_table(BOOKS)?;
                for Row { id, book, .. } in rows {
                    let book = serde_json::to_vec(book).map_err(io::Error::other)?;
                    table.insert(id.as_str(), book.as_slice())?;
                }
            }
            Ok(transaction.commit()?)
        });
        written.map(|()| Vec::new()).map_err(|error| self.said("write", &error))
    }
}

impl<F> std::fmt::Debug for Db<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use redb::{StorageBackend, backends::FileBackend};

    use super::*;

    fn row(id: &str, requests: u64) -> Row {
        let id = KeyId::written(id).expect("an id");
        let book = Book { requests, ..Book::default() };
        Row { id, book, base: book }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("usage.redb");
        let mut db = Db::new(path.clone());
        assert_eq!(db.load(&Book::default()), Ok(Vec::new()));
        db.write(&[row("ann", 1), row("#1", 2), row("*", 3)]).expect("written");
        db.write(&[row("ann", 4)]).expect("written");
        let expected = [row("#1", 2), row("*", 3), row("ann", 4)];
        assert_eq!(db.load(&Book::default()).expect("all"), expected);
        let refused = Db::new(path.clone()).load(&Book::default()).expect_err("one at a time");
        assert!(
            refused.ends_with(
                "usage.redb is in use by another process; give each proxy a file of its own"
            ),
            "{refused}"
        );
        drop(db);
        assert_eq!(Db::new(path.clone()).load(&Book::default()).expect("all"), expected);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn another_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notes.txt");
        fs::write(&path, "not a database, and long enough to look at".repeat(200))
            .expect("written");
        let refused = Db::new(path.clone()).load(&Book::default()).expect_err("no database");
        assert!(refused.contains("notes.txt"), "{refused}");
        let nowhere = Db::new(folder.path().join("none/usage.redb"))
            .load(&Book::default())
            .expect_err("no folder");
        assert!(nowhere.starts_with("cannot read "), "{nowhere}");
    }

    /// A file on a disk that may be full.
    #[derive(Debug)]
    struct Disk {
        file: FileBackend,
        is_full: Arc<AtomicBool>,
    }

    impl Disk {
        fn room(&self) -> io::Result<()> {
            match self.is_full.load(Ordering::Relaxed) {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.file.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.room()?;
            self.file.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.room()?;
            self.file.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.room()?;
            self.file.write(offset, data)
        }

        fn close(&self) -> io::Result<()> {
            self.file.close()
        }
    }

    #[test]
    fn a_disk_that_was_full_is_written_to_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let is_full = Arc::new(AtomicBool::new(false));
        let open = {
            let is_full = Arc::clone(&is_full);
            move |path: &Path| {
                let mut options = File::options();
                options.read(true).write(true).create(true).truncate(false);
                let file = FileBackend::new(options.open(path)?)?;
                Database::builder()
                    .create_with_backend(Disk { file, is_full: Arc::clone(&is_full) })
            }
        };
        let mut db = Db { path: folder.path().join("usage.redb"), open, database: None };
        db.write(&[row("ann", 1)]).expect("there is room");
        is_full.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            let refused = db.write(&[row("ann", 2), row("bob", 1)]).expect_err("it is full");
            assert!(refused.starts_with("cannot write "), "{refused}");
        }
        is_full.store(false, Ordering::Relaxed);
        assert_eq!(db.load(&Book::default()).expect("what was there"), [row("ann", 1)]);
        db.write(&[row("ann", 2), row("bob", 1)]).expect("there is room");
        assert_eq!(db.load(&Book::default()).expect("all"), [row("ann", 2), row("bob", 1)]);
    }
}
