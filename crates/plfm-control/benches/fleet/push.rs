//! How long a new default takes to be seen by every host that holds a long poll.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use hyper::{Method, StatusCode};
use plfm_api::control::{Generation, IDEMPOTENCY_KEY, Receipt, SetDefault, Target};

use crate::Options;
use crate::connection::Connection;
use crate::load::operator;
use crate::seed::Fleet;
use crate::server::Server;
use crate::summary::Figures;

/// How long the slowest host may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn measure(
    server: &Server,
    fleet: &Fleet,
    mut connections: Vec<Connection>,
    options: &Options,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let mut generation = Generation(0);
    for round in 0..options.push {
        let release = fleet.releases.get(round % 2).context("there are two releases")?;
        let polls: Vec<_> = connections
            .into_iter()
            .map(|connection| tokio::spawn(poll(connection, generation)))
            .collect();
        // The polls must be there before the change: the server counts them.
        let all = f64::from(u32::try_from(polls.len())?);
        let deadline = Instant::now() + PATIENCE;
        while server.counter("plfm_control_long_polls").await? < all {
            ensure!(Instant::now() < deadline, "the long polls did not arrive");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let asked = Instant::now();
        let receipt: Receipt = operator(fleet)?
            .post(format!(
                "https://localhost:{}/v1/kernels/set-default",
                server.address.port()
            ))
            .bearer_auth(&fleet.token)
            .header(IDEMPOTENCY_KEY, ulid::Ulid::generate().to_string())
            .json(&SetDefault {
                release: release.to_string(),
                expected_generation: None,
                despite_unable_hosts: false,
                reason: None,
            })
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        let seen = tokio::time::timeout(PATIENCE, try_join_all(polls)).await??;
        connections = Vec::with_capacity(seen.len());
        let mut took = Vec::with_capacity(seen.len());
        for result in seen {
            let (connection, target, at) = result?;
            ensure!(
                target.default.as_ref() == Some(release),
                "a host saw another default"
            );
            took.push(u64::try_from(at.saturating_duration_since(asked).as_micros())?);
            connections.push(connection);
        }
        figures.pushed(took);
        generation = receipt.generation;
    }
    Ok(())
}

async fn poll(
    mut connection: Connection,
    after: Generation,
) -> anyhow::Result<(Connection, Target, Instant)> {
    let path = format!(
        "/v1/hosts/{}/target?after={after}&wait_seconds=55",
        connection.host
    );
    let (status, body) = connection.ask(Method::GET, &path, Vec::new()).await?;
    let at = Instant::now();
    ensure!(
        status == StatusCode::OK,
        "{status}: {}",
        String::from_utf8_lossy(&body)
    );
    Ok((connection, serde_json::from_slice(&body)?, at))
}
