//! Latency tables: measurements kept in SQLite, found again by [`table_key`].

mod exchange;
mod key;
mod store;

pub use exchange::EXCHANGE_VERSION;
pub use key::{read_inputs, structure_key, table_key};
pub use store::TableStore;
