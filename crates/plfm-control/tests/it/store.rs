//! The store: one suite of facts, on SQLite and on PostgreSQL.

mod answers;
mod backup;
mod beats;
mod counts;
mod fixture;
mod hosts;
mod kills;
mod large;
mod leases;
mod log;
mod model;
mod opening;
mod rollouts;

/// Makes a test for each backend out of each fact.
macro_rules! on_both {
    ($($fact:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $fact() {
                    super::$fact($crate::store::fixture::Database::sqlite()).await;
                }
            )*
        }

        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                #[cfg_attr(not(postgres_installed), ignore = "needs PostgreSQL 15")]
                async fn $fact() {
                    super::$fact($crate::store::fixture::Database::postgres().await).await;
                }
            )*
        }
    };
}
use on_both;
