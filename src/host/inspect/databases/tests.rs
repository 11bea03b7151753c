use std::io::Write;
use std::path::Path;

use rusqlite::Connection;

use super::super::testing::Tree;
use super::*;

fn databases(tree: &Tree, check: bool) -> Vec<Database> {
    let before = tree.snapshot();
    let found = find(tree.root(), check, &Cancel::new()).unwrap();
    assert_eq!(tree.snapshot(), before, "looking changes nothing");
    found
}

/// What the check says of the only database.
fn fault(tree: &Tree) -> Option<String> {
    let mut found = databases(tree, true);
    assert_eq!(found.len(), 1);
    found.remove(0).fault
}

fn open(path: &Path) -> Connection {
    Connection::open(path).unwrap()
}

fn open_wal(path: &Path) -> Connection {
    let database = open(path);
    let set = "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;";
    database.execute_batch(set).unwrap();
    database
}

/// A table with an index and some pages of rows.
fn fill(database: &Connection, table: &str) {
    let sql = format!(
        "CREATE TABLE {table} (id INTEGER PRIMARY KEY, text TEXT);
         CREATE INDEX {table}_text ON {table} (text);
         WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         INSERT INTO {table} SELECT i, printf('%08d', i * 7919 % 10007) FROM n;"
    );
    database.execute_batch(&sql).unwrap();
}

fn copy(from: &Tree, to: &Tree, names: &[&str]) {
    for name in names {
        std::fs::copy(from.path(name), to.path(name)).unwrap();
    }
}

#[test]
fn databases_are_known_by_their_header() {
    let tree = Tree::new();
    tree.file("deep/er/x", "");
    fill(&open(&tree.path("deep/er/no-suffix")), "t");
    fill(&open(&tree.path("a b%23?.db")), "t");
    tree.file("not.sqlite", "x".repeat(4096));
    tree.file("short.db", header::MAGIC);
    tree.file("zero.db", "");
    tree.file("zero.db-wal", "x".repeat(4096));
    tree.fifo("fifo.db");
    std::os::unix::fs::symlink("a b%23?.db", tree.path("link.db")).unwrap();
    let found = databases(&tree, true);
    let paths: Vec<_> = found.iter().map(|found| &*found.path).collect();
    assert_eq!(paths, ["a b%23?.db", "deep/er/no-suffix"]);
    assert!(found.iter().all(|found| found.fault.is_none()), "{found:?}");
    assert!(found.iter().all(|found| found.beside.is_empty()));
}

#[test]
fn the_stamp_tells_every_change_of_the_set() {
    let tree = Tree::new();
    let database = open_wal(&tree.path("db"));
    fill(&database, "t");
    let stamp = |tree: &Tree| databases(tree, false).remove(0);
    let first = stamp(&tree);
    assert_eq!(first.beside, ["-wal", "-shm"]);
    assert!(first.wal_bytes > 4096);
    assert_eq!(stamp(&tree), first);
    database
        .execute_batch("UPDATE t SET text = 'x' WHERE id = 1")
        .unwrap();
    let second = stamp(&tree);
    assert_ne!(second.stamp, first.stamp);
    drop(database);
    let third = stamp(&tree);
    assert_ne!(third.stamp, second.stamp);
    assert!(third.beside.is_empty());
}

#[test]
fn a_sound_set_is_sound_with_its_log() {
    let tree = Tree::new();
    let database = open_wal(&tree.path("db"));
    fill(&database, "t");
    assert_eq!(fault(&tree), None);
    database
        .execute_batch("PRAGMA wal_checkpoint(PASSIVE)")
        .unwrap();
    assert_eq!(
        fault(&tree),
        None,
        "the log is older than the database, and its own"
    );
    fill(&database, "later");
    assert_eq!(fault(&tree), None);
}

#[test]
fn a_broken_database_is_told() {
    let tree = Tree::new();
    fill(&open(&tree.path("db")), "t");
    let mut file = std::fs::OpenOptions::new();
    let file = file.write(true).open(tree.path("db")).unwrap();
    file.write_all_at(&[0xff; 4096], 3 * 4096).unwrap();
    let said = fault(&tree).unwrap();
    assert!(!said.contains("could not be checked"), "{said}");
}

#[test]
fn an_index_that_lacks_a_row_is_told() {
    let tree = Tree::new();
    let database = open(&tree.path("db"));
    fill(&database, "t");
    let sql = "PRAGMA writable_schema=ON;
        UPDATE sqlite_schema SET sql = 'CREATE INDEX t_text ON t (id)' WHERE name = 't_text';";
    database.execute_batch(sql).unwrap();
    drop(database);
    assert!(fault(&tree).is_some());
}

/// Puts the log of a former state beside a database that has changed since by `change`.
fn with_old_log(change: fn(Connection, &Path)) -> Tree {
    let (tree, old) = (Tree::new(), Tree::new());
    let database = open_wal(&tree.path("db"));
    fill(&database, "t");
    copy(&tree, &old, &["db-wal"]);
    change(database, &tree.path("db"));
    assert_eq!(fault(&tree), None);
    copy(&old, &tree, &["db-wal"]);
    tree
}

#[test]
fn the_log_of_an_older_state_is_told() {
    let other_schema = with_old_log(|database, _| fill(&database, "later"));
    let other_connection = with_old_log(|database, path| {
        drop(database);
        let grow = "INSERT INTO t SELECT id + 2000, text || 'later' FROM t";
        open_wal(path).execute_batch(grow).unwrap();
    });
    for tree in [other_schema, other_connection] {
        let said = fault(&tree).unwrap();
        assert!(
            said.contains("not its own: the database is newer"),
            "{said}"
        );
    }
}

#[test]
fn a_log_whose_age_cannot_be_proved_is_told_by_what_it_breaks() {
    let (tree, old) = (Tree::new(), Tree::new());
    let database = open_wal(&tree.path("db"));
    fill(&database, "t");
    let sql = "PRAGMA wal_checkpoint(TRUNCATE); UPDATE t SET text = 'x' WHERE id % 100 = 0;";
    database.execute_batch(sql).unwrap();
    copy(&tree, &old, &["db-wal"]);
    database
        .execute_batch("DELETE FROM t WHERE id > 100")
        .unwrap();
    drop(database);
    assert_eq!(fault(&tree), None);
    copy(&old, &tree, &["db-wal"]);
    let said = fault(&tree).unwrap();
    assert!(!said.contains("not its own"), "{said}");
}

#[test]
fn the_log_of_another_database_is_told() {
    let (tree, other) = (Tree::new(), Tree::new());
    fill(&open(&tree.path("db")), "t");
    let in_wal = open_wal(&other.path("db"));
    fill(&in_wal, "t");
    copy(&other, &tree, &["db-wal"]);
    let said = fault(&tree).unwrap();
    assert!(said.contains("not in WAL mode"), "{said}");

    std::fs::remove_file(tree.path("db")).unwrap();
    std::fs::remove_file(tree.path("db-wal")).unwrap();
    let paged = open(&tree.path("db"));
    paged.execute_batch("PRAGMA page_size=8192").unwrap();
    paged.execute_batch("PRAGMA journal_mode=WAL").unwrap();
    fill(&paged, "t");
    drop(paged);
    copy(&other, &tree, &["db-wal"]);
    let said = fault(&tree).unwrap();
    assert!(said.contains("page sizes differ"), "{said}");
}

#[test]
fn an_empty_log_and_a_finished_journal_are_no_fault() {
    let tree = Tree::new();
    let database = open(&tree.path("db"));
    fill(&database, "t");
    drop(database);
    tree.file("db-wal", "");
    tree.file("db-journal", [0; 1024]);
    assert_eq!(fault(&tree), None);
}

#[test]
fn an_interrupted_transaction_is_rolled_back_on_a_copy() {
    let (tree, alone, live) = (Tree::new(), Tree::new(), Tree::new());
    let database = open(&live.path("db"));
    fill(&database, "t");
    // Of a transaction larger than the cache some pages are in the file before it ends.
    let sql = "PRAGMA cache_size=2; BEGIN; UPDATE t SET text = text || 'changed';
        DELETE FROM t WHERE id % 3 = 0;";
    database.execute_batch(sql).unwrap();
    copy(&live, &tree, &["db", "db-journal"]);
    copy(&live, &alone, &["db"]);
    assert!(fault(&alone).is_some(), "the file alone is half-written");
    assert_eq!(fault(&tree), None);
    assert_eq!(databases(&tree, false)[0].beside, ["-journal"]);
}

/// A journal that lets SQLite remove the file at `victim` when it rolls back.
fn journal_naming(victim: &str) -> Vec<u8> {
    let mut journal = header::JOURNAL_MAGIC.to_vec();
    for word in [0_u32, 0, 1, 512, 4096] {
        journal.extend(word.to_be_bytes());
    }
    journal.resize(512, 0);
    journal.extend([0; 4]);
    journal.extend(victim.as_bytes());
    let sum: u32 = victim.bytes().map(u32::from).sum();
    journal.extend((victim.len() as u32).to_be_bytes());
    journal.extend(sum.to_be_bytes());
    journal.extend(header::JOURNAL_MAGIC);
    journal
}

#[test]
fn a_journal_that_names_other_files_is_not_followed() {
    let (tree, elsewhere) = (Tree::new(), Tree::new());
    fill(&open(&tree.path("db")), "t");
    elsewhere.file("victim", "precious");
    tree.file("db-journal", journal_naming(&elsewhere.text("victim")));
    let said = fault(&tree).unwrap();
    assert!(said.contains("several databases"), "{said}");
    assert!(elsewhere.path("victim").exists());

    // SQLite itself would.
    let database = open(&tree.path("db"));
    let _ = database.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
    assert!(!elsewhere.path("victim").exists());
}

#[test]
fn a_file_that_only_begins_like_a_database_is_told() {
    let tree = Tree::new();
    let mut file = std::fs::File::create(tree.path("db")).unwrap();
    file.write_all(header::MAGIC).unwrap();
    file.set_len(4096).unwrap();
    assert!(fault(&tree).is_some());
}
