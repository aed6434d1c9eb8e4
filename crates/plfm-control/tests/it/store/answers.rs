//! Answers that are given again.

use plfm_control::store::{Answer, AppendError};

use super::fixture::{Database, answer, at, event};
use super::on_both;

on_both!(
    a_request_that_comes_to_two_replicas_at_once_is_carried_out_once,
    an_answer_is_kept_with_its_events_or_not_at_all,
    an_answer_to_a_change_that_changed_nothing_is_kept,
    answers_are_forgotten_by_age,
    a_key_is_of_one_principal,
);

fn same(a: &Answer, b: &Answer) -> bool {
    a == b
}

async fn a_request_that_comes_to_two_replicas_at_once_is_carried_out_once(database: Database) {
    let replicas = [database.open().await, database.open().await];
    for key in 0..20 {
        let tries: Vec<_> = (0..4)
            .map(|number: usize| {
                let store = replicas[number % 2].clone();
                tokio::spawn(async move {
                    loop {
                        let head = store.head().await.unwrap();
                        let answer = answer(key, &format!("try {number}"));
                        match store.append(head, &[event("fleet", "a")], Some(&answer)).await {
                            Ok(_) => return Some(answer),
                            Err(AppendError::Answered) => return None,
                            Err(AppendError::Moved { .. }) => (),
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        let mut given = Vec::new();
        for one in tries {
            given.extend(one.await.unwrap());
        }
        assert_eq!(given.len(), 1);
        let kept = replicas[0].answer("somebody", &[key; 32]).await.unwrap().unwrap();
        assert!(same(&kept, &given[0]));
    }
    assert_eq!(replicas[0].head().await.unwrap(), 20);
}

async fn an_answer_is_kept_with_its_events_or_not_at_all(database: Database) {
    let store = database.open().await;
    let moved = store
        .append(7, &[event("fleet", "a")], Some(&answer(1, "first")))
        .await;
    assert!(matches!(moved, Err(AppendError::Moved { head: 0 })));
    assert!(store.answer("somebody", &[1; 32]).await.unwrap().is_none());
    store
        .append(0, &[event("fleet", "a")], Some(&answer(1, "second")))
        .await
        .unwrap();
    // Another try, whatever it expects, learns that it was answered, and appends nothing.
    for expected in [0, 1, 7] {
        let again = store
            .append(expected, &[event("fleet", "b")], Some(&answer(1, "third")))
            .await;
        assert!(matches!(again, Err(AppendError::Answered)));
    }
    let kept = store.answer("somebody", &[1; 32]).await.unwrap().unwrap();
    assert!(same(&kept, &answer(1, "second")));
    assert_eq!(store.head().await.unwrap(), 1);
}

async fn an_answer_to_a_change_that_changed_nothing_is_kept(database: Database) {
    let store = database.open().await;
    let mut odd = answer(1, "");
    odd.body = vec![0, 255, 10];
    odd.status = 599;
    store.keep_answer(&odd).await.unwrap();
    assert!(matches!(
        store.keep_answer(&answer(1, "b")).await,
        Err(AppendError::Answered)
    ));
    assert!(same(
        &store.answer("somebody", &[1; 32]).await.unwrap().unwrap(),
        &odd
    ));
    store.append(0, &[], Some(&answer(2, "c"))).await.unwrap();
    assert!(store.answer("somebody", &[2; 32]).await.unwrap().is_some());
    assert_eq!(store.head().await.unwrap(), 0);
}

async fn answers_are_forgotten_by_age(database: Database) {
    let store = database.open().await;
    for (key, seconds) in [(1, 10), (2, 20), (3, 30)] {
        let mut answer = answer(key, "a");
        answer.at = at(seconds);
        store.keep_answer(&answer).await.unwrap();
    }
    assert_eq!(store.forget_answers(at(20)).await.unwrap(), 1);
    assert!(store.answer("somebody", &[1; 32]).await.unwrap().is_none());
    assert!(store.answer("somebody", &[2; 32]).await.unwrap().is_some());
    store.keep_answer(&answer(1, "again")).await.unwrap();
}

async fn a_key_is_of_one_principal(database: Database) {
    let store = database.open().await;
    store.keep_answer(&answer(1, "mine")).await.unwrap();
    let mut other = answer(1, "theirs");
    other.principal = "somebody else".to_owned();
    store.keep_answer(&other).await.unwrap();
    assert!(same(
        &store.answer("somebody", &[1; 32]).await.unwrap().unwrap(),
        &answer(1, "mine")
    ));
    assert!(same(
        &store.answer("somebody else", &[1; 32]).await.unwrap().unwrap(),
        &other
    ));
}
