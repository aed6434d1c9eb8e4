//! Every endpoint against everybody who may not, and every request that cannot be read: the right status, a problem
//! document, and nothing changed.

use jiff::{SignedDuration, Timestamp};
use plfm_api::control::EnrolledHost;
use plfm_control::authority::{Authority, SigningRequest};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::plane::{Host, Plane, beat, client, csr, identity, problem, start};

/// An endpoint and a body that it would take.
struct Endpoint {
    method: Method,
    path: String,
    body: Option<Value>,
    /// The role that it needs; `host` for hosts, `""` for anybody.
    role: &'static str,
    is_change: bool,
}

const HOST: &str = "01JZZZZZZZZZZZZZZZZZZZZZZZ";

fn endpoints(host: &str) -> Vec<Endpoint> {
    let key = rcgen::KeyPair::generate().unwrap();
    let get = |path: &str, role| Endpoint {
        method: Method::GET,
        path: path.replace("{id}", host),
        body: None,
        role,
        is_change: false,
    };
    let post = |path: &str, role, body| Endpoint {
        method: Method::POST,
        path: path.replace("{id}", host),
        body: Some(body),
        role,
        is_change: role != "host" && !role.is_empty(),
    };
    let enroll =
        json!({"token": "x", "name": "h", "csr": csr(&key), "agent_version": "1.0.0", "arch": "x86_64"});
    vec![
        post("/v1/hosts/enroll", "", enroll),
        post("/v1/hosts/{id}/certificate", "host", json!({"csr": csr(&key)})),
        post(
            "/v1/hosts/{id}/heartbeat",
            "host",
            serde_json::to_value(beat(0)).unwrap(),
        ),
        get("/v1/hosts/{id}/target", "host"),
        get("/v1/kernels", "viewer"),
        get("/v1/kernels/6.1.1-20261121a", "viewer"),
        post("/v1/kernels/set-default", "operator", json!({"release": "x"})),
        post("/v1/kernels/rollback", "operator", json!({})),
        post(
            "/v1/kernels/block",
            "operator",
            json!({"release": "x", "reason": "y"}),
        ),
        post("/v1/kernels/unblock", "operator", json!({"release": "x"})),
        get("/v1/fleet", "viewer"),
        get("/v1/hosts", "viewer"),
        get("/v1/hosts/{id}", "viewer"),
        post("/v1/hosts/{id}/drain", "operator", json!({})),
        post("/v1/hosts/{id}/undrain", "operator", json!({})),
        post("/v1/hosts/{id}/revoke", "admin", json!({})),
        get("/v1/rollouts", "viewer"),
        get("/v1/rollouts/current", "viewer"),
        post("/v1/rollouts", "operator", json!({"release": "x"})),
        post("/v1/rollouts/current/pause", "operator", json!({})),
        post("/v1/rollouts/current/resume", "operator", json!({})),
        post("/v1/rollouts/current/abort", "operator", json!({})),
        post("/v1/rollouts/current/promote", "operator", json!({})),
        get("/v1/events", "viewer"),
        get("/v1/policy", "viewer"),
        Endpoint {
            method: Method::PUT,
            ..post("/v1/policy", "operator", json!({"policy": {}}))
        },
        get("/v1/tokens", "admin"),
        post("/v1/tokens", "admin", json!({"name": "x", "role": "viewer"})),
        post(&format!("/v1/tokens/{HOST}/revoke"), "admin", json!({})),
        get("/v1/enrollment-tokens", "operator"),
        post("/v1/enrollment-tokens", "operator", json!({})),
        post(
            &format!("/v1/enrollment-tokens/{HOST}/revoke"),
            "operator",
            json!({}),
        ),
        get("/v1/whoami", "viewer"),
    ]
}

impl Endpoint {
    /// A request to it, without anybody's name on it.
    fn request(&self, plane: &Plane, client: &Client) -> RequestBuilder {
        let mut request = client.request(self.method.clone(), plane.url(&self.path));
        if self.is_change {
            request = request.header("idempotency-key", ulid::Ulid::generate().to_string());
        }
        match &self.body {
            Some(body) => request.json(body),
            None => request,
        }
    }

    fn is_operators(&self) -> bool {
        !matches!(self.role, "" | "host")
    }
}

#[tokio::test]
async fn nobody_without_a_token_or_a_certificate_is_answered() {
    // Each control plane is asked half: an address that fails too often is not heard any more.
    for half in 0..2 {
        let plane = start().await;
        let (client, head) = (plane.client(), plane.head().await);
        let asked = endpoints(HOST).into_iter().skip(half).step_by(2);
        for endpoint in asked.filter(|endpoint| !endpoint.role.is_empty()) {
            let code = if endpoint.is_operators() {
                "token_missing"
            } else {
                "certificate_missing"
            };
            problem(endpoint.request(&plane, &client).send().await.unwrap(), 401, code).await;
            assert_eq!(plane.head().await, head);
        }
    }
}

/// Tokens that are wrong in different ways get the same answer.
#[tokio::test]
async fn a_wrong_token_does_not_tell_what_is_wrong_with_it() {
    let plane = start().await;
    let (client, head) = (plane.client(), plane.head().await);
    let (known, secret) = plane.admin.split_at(plane.admin.len() - 43);
    let other = format!(
        "{known}{}",
        secret.chars().rev().collect::<String>().replace(['-', '_'], "A")
    );
    let other = other[..other.len() - 1].to_owned() + "A";
    let unknown = plane.admin.replace(&plane.admin[8..34], HOST);
    let tokens = [
        other,
        unknown,
        "x".to_owned(),
        plane.admin.replace("plfm_op_", "plfm_enroll_"),
    ];
    let mut answers = Vec::new();
    for token in &tokens {
        let request = client.get(plane.url("/v1/whoami")).bearer_auth(token);
        let mut body = problem(request.send().await.unwrap(), 401, "token_invalid").await;
        body["request_id"] = Value::Null;
        answers.push(body);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    for endpoint in endpoints(HOST).iter().filter(|endpoint| endpoint.is_operators()) {
        let request = endpoint.request(&plane, &client).bearer_auth(&tokens[1]);
        let answer = request.send().await.unwrap();
        assert!(matches!(
            answer.status(),
            StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS
        ));
    }
    assert_eq!(plane.head().await, head);
}

#[tokio::test]
async fn who_fails_too_often_has_to_wait_and_a_right_token_is_answered_all_the_same() {
    let plane = start().await;
    let client = plane.client();
    let mut limited = None;
    for _ in 0..40 {
        let answer = client
            .get(plane.url("/v1/whoami"))
            .bearer_auth("wrong")
            .send()
            .await
            .unwrap();
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            limited = Some(answer);
            break;
        }
    }
    let limited = limited.expect("forty failures are too many");
    assert!(limited.headers().contains_key("retry-after"));
    problem(limited, 429, "too_many_failures").await;
    assert_eq!(plane.get("/v1/whoami").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_role_that_is_too_low_is_refused() {
    let plane = start().await;
    let (viewer, operator) = (plane.token("viewer").await, plane.token("operator").await);
    let (client, head) = (plane.client(), plane.head().await);
    for endpoint in endpoints(HOST) {
        let who = match endpoint.role {
            "operator" => &viewer,
            "admin" => &operator,
            _ => continue,
        };
        let answer = endpoint
            .request(&plane, &client)
            .bearer_auth(who)
            .send()
            .await
            .unwrap();
        problem(answer, 403, "role_too_low").await;
        assert_eq!(plane.head().await, head, "{}", endpoint.path);
    }
}

#[tokio::test]
async fn an_operators_token_does_not_make_a_host_nor_a_certificate_an_operator() {
    for half in 0..2 {
        let plane = start().await;
        let host = plane.host("host-a").await;
        let head = plane.head().await;
        for endpoint in endpoints(&host.id).into_iter().skip(half).step_by(2) {
            let (answer, code) = match endpoint.role {
                "" => continue,
                "host" => {
                    let request = endpoint
                        .request(&plane, &plane.client())
                        .bearer_auth(&plane.admin);
                    (request.send().await.unwrap(), "certificate_missing")
                }
                _ => (
                    endpoint.request(&plane, &host.client).send().await.unwrap(),
                    "token_missing",
                ),
            };
            problem(answer, 401, code).await;
            assert_eq!(plane.head().await, head);
        }
    }
}

#[tokio::test]
async fn a_host_speaks_for_itself_only() {
    let plane = start().await;
    let (one, other) = (plane.host("host-a").await, plane.host("host-b").await);
    let head = plane.head().await;
    for endpoint in endpoints(&other.id)
        .iter()
        .filter(|endpoint| endpoint.role == "host")
    {
        let answer = endpoint.request(&plane, &one.client).send().await.unwrap();
        problem(answer, 403, "other_host").await;
    }
    assert_eq!(plane.head().await, head);
}

/// A client with a certificate that the authority of the control plane issued, as if at another time or for another host.
fn with_certificate(plane: &Plane, host: &str, at: Timestamp) -> Client {
    let dir = plane.dir.path();
    let authority = Authority::open(&dir.join("ca.crt"), &dir.join("ca.key")).unwrap();
    with_certificate_of(plane, &authority, host, at)
}

fn with_certificate_of(plane: &Plane, authority: &Authority, host: &str, at: Timestamp) -> Client {
    let key = rcgen::KeyPair::generate().unwrap();
    let request = SigningRequest::parse(&csr(&key)).unwrap();
    let issued = authority.issue(&host.parse().unwrap(), &request, at).unwrap();
    client(plane.ca(), Some(identity(&issued.chain_pem, &key)))
}

#[tokio::test]
async fn an_expired_certificate_is_told_so() {
    let plane = start().await;
    let host = plane.host("host-a").await;
    let head = plane.head().await;
    let long_ago = Timestamp::now() - SignedDuration::from_hours(31 * 24);
    let (expired, early) = (
        with_certificate(&plane, &host.id, long_ago),
        Timestamp::now() + SignedDuration::from_hours(24),
    );
    for endpoint in endpoints(&host.id)
        .iter()
        .filter(|endpoint| endpoint.role == "host")
    {
        let answer = endpoint.request(&plane, &expired).send().await.unwrap();
        problem(answer, 401, "certificate_expired").await;
    }
    let early = with_certificate(&plane, &host.id, early);
    assert!(
        early
            .get(plane.url(&format!("/v1/hosts/{}/target", host.id)))
            .send()
            .await
            .is_err()
    );
    assert_eq!(plane.head().await, head);
}

#[tokio::test]
async fn a_certificate_of_a_host_that_never_enrolled_is_refused() {
    let plane = start().await;
    let stranger = with_certificate(&plane, HOST, Timestamp::now());
    let answer = stranger
        .get(plane.url(&format!("/v1/hosts/{HOST}/target")))
        .send()
        .await
        .unwrap();
    problem(answer, 401, "host_unknown").await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_ends_the_handshake_even_if_it_expired() {
    let plane = start().await;
    let host = plane.host("host-a").await;
    let elsewhere = tempfile::tempdir().unwrap();
    let then = Timestamp::now() - SignedDuration::from_hours(40 * 24);
    let foreign = Authority::create(elsewhere.path(), then).unwrap();
    for at in [Timestamp::now(), then] {
        let stranger = with_certificate_of(&plane, &foreign, &host.id, at);
        for endpoint in endpoints(&host.id)
            .iter()
            .filter(|endpoint| endpoint.role == "host")
        {
            assert!(
                endpoint.request(&plane, &stranger).send().await.is_err(),
                "{}",
                endpoint.path
            );
        }
    }
}

#[tokio::test]
async fn a_certificate_for_servers_or_without_a_hosts_name_is_no_hosts() {
    let plane = start().await;
    let host = plane.host("host-a").await;
    let read = |name: &str| std::fs::read_to_string(plane.dir.path().join(name)).unwrap();
    let ca_key = rcgen::KeyPair::from_pem(&read("ca.key")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca.crt"), ca_key).unwrap();
    let uri = format!("urn:plfm:host:{}", host.id);
    let made = |purpose, names: Vec<rcgen::SanType>| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.extended_key_usages = vec![purpose];
        params.subject_alt_names = names;
        let certificate = params.signed_by(&key, &issuer).unwrap();
        client(plane.ca(), Some(identity(&certificate.pem(), &key)))
    };
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let name = rcgen::SanType::URI(uri.clone().try_into().unwrap());
    let other = rcgen::SanType::URI("urn:plfm:host:x".try_into().unwrap());
    let url = plane.url(&format!("/v1/hosts/{}/target", host.id));
    assert!(
        made(ServerAuth, vec![name.clone()])
            .get(&url)
            .send()
            .await
            .is_err()
    );
    for names in [
        vec![],
        vec![other.clone()],
        vec![name.clone(), other],
        vec![name.clone(), name],
    ] {
        let answer = made(ClientAuth, names).get(&url).send().await.unwrap();
        problem(answer, 401, "certificate_not_a_host").await;
    }
}

#[tokio::test]
async fn bodies_that_are_not_what_an_endpoint_takes_are_refused() {
    let plane = start().await;
    let host = plane.host("host-a").await;
    let head = plane.head().await;
    for endpoint in endpoints(&host.id)
        .iter()
        .filter(|endpoint| endpoint.body.is_some())
    {
        let request = || {
            let client = if endpoint.role == "host" {
                &host.client
            } else {
                &plane.client()
            };
            let mut request = client.request(endpoint.method.clone(), plane.url(&endpoint.path));
            if endpoint.is_operators() {
                request = request
                    .bearer_auth(&plane.admin)
                    .header("idempotency-key", ulid::Ulid::generate().to_string());
            }
            request
        };
        let json = || request().header("content-type", "application/json");
        let mut unknown = endpoint.body.clone().unwrap();
        unknown["unknown"] = json!(1);
        let large = format!("{{\"x\":\"{}\"}}", "y".repeat(300 * 1024));
        let cases = [
            (json().body("{"), 400, "json_malformed"),
            (json().body(""), 400, "json_malformed"),
            (json().body("\u{fffd}"), 400, "json_malformed"),
            (json().body("[]"), 422, "json_unexpected"),
            (json().body(unknown.to_string()), 422, "json_unexpected"),
            (json().body(large), 413, "body_too_large"),
            (
                request().header("content-type", "text/plain").body("{}"),
                415,
                "content_type_unsupported",
            ),
            (request().body("{}"), 415, "content_type_unsupported"),
        ];
        for (case, status, code) in cases {
            let answer = case.send().await.unwrap();
            problem(answer, status, code).await;
            assert_eq!(plane.head().await, head, "{} {code}", endpoint.path);
        }
    }
}

#[tokio::test]
async fn a_change_needs_one_idempotency_key_that_is_one() {
    let plane = start().await;
    let head = plane.head().await;
    for endpoint in endpoints(HOST).iter().filter(|endpoint| endpoint.is_change) {
        let request = || {
            let request = plane.request(endpoint.method.clone(), &endpoint.path);
            request.json(endpoint.body.as_ref().unwrap())
        };
        problem(request().send().await.unwrap(), 400, "idempotency_key_missing").await;
        for key in ["", "a b", &"x".repeat(129)] {
            let answer = request().header("idempotency-key", key).send().await.unwrap();
            problem(answer, 400, "idempotency_key_malformed").await;
        }
        let twice = request()
            .header("idempotency-key", "a")
            .header("idempotency-key", "b");
        problem(twice.send().await.unwrap(), 400, "idempotency_key_malformed").await;
    }
    assert_eq!(plane.head().await, head);
}

#[tokio::test]
async fn other_methods_and_paths_are_refused() {
    let plane = start().await;
    for endpoint in endpoints(HOST) {
        let answer = plane
            .request(Method::DELETE, &endpoint.path)
            .send()
            .await
            .unwrap();
        assert!(answer.headers().contains_key("allow"), "{}", endpoint.path);
        problem(answer, 405, "method_not_allowed").await;
    }
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/nothing",
        "/v2/fleet",
        "/v1/fleet/",
        "/metrics",
    ] {
        let answer = plane.request(Method::GET, path).send().await.unwrap();
        problem(answer, 404, "endpoint_unknown").await;
    }
}

#[tokio::test]
async fn parameters_that_cannot_be_are_refused() {
    let plane = start().await;
    let host = plane.host("host-a").await;
    let cases = [
        ("/v1/hosts/x", 400, "path_malformed"),
        ("/v1/hosts/%ff", 400, "path_malformed"),
        (&format!("/v1/hosts/{HOST}"), 404, "host_unknown"),
        ("/v1/hosts?limit=0", 422, "limit_invalid"),
        ("/v1/hosts?limit=201", 422, "limit_invalid"),
        ("/v1/hosts?limit=x", 400, "query_malformed"),
        ("/v1/hosts?what=x", 400, "query_malformed"),
        ("/v1/hosts?state=gone", 400, "query_malformed"),
        ("/v1/hosts?release=x", 404, "release_unknown"),
        ("/v1/hosts?cursor=x", 422, "cursor_malformed"),
        ("/v1/kernels?cursor=x", 422, "cursor_malformed"),
        ("/v1/kernels/x", 404, "release_unknown"),
        ("/v1/events?wait_seconds=61", 422, "wait_invalid"),
        ("/v1/events?after=-1", 400, "query_malformed"),
        ("/v1/events?limit=1000", 422, "limit_invalid"),
        ("/v1/tokens?limit=0", 422, "limit_invalid"),
    ];
    for (path, status, code) in cases {
        problem(plane.get(path).await, status, code).await;
    }
    let target = async |query: &str| {
        let url = plane.url(&format!("/v1/hosts/{}/target?{query}", host.id));
        host.client.get(url).send().await.unwrap()
    };
    problem(target("after=x").await, 400, "query_malformed").await;
    problem(target("wait_seconds=61").await, 422, "wait_invalid").await;
}

#[tokio::test]
async fn changes_that_cannot_be_are_refused() {
    let plane = start().await;
    let release = plane.find(1).await.to_string();
    let head = plane.head().await;
    let long = "x".repeat(513);
    let cases = [
        (
            "/v1/kernels/set-default",
            json!({"release": "x"}),
            404,
            "release_unknown",
        ),
        (
            "/v1/kernels/set-default",
            json!({"release": release, "expected_generation": 7}),
            409,
            "generation_moved",
        ),
        (
            "/v1/kernels/set-default",
            json!({"release": release, "reason": long}),
            422,
            "reason_invalid",
        ),
        (
            "/v1/kernels/block",
            json!({"release": release, "reason": "a\nb"}),
            422,
            "reason_invalid",
        ),
        (
            "/v1/tokens",
            json!({"name": "", "role": "viewer"}),
            422,
            "token_name_invalid",
        ),
        (
            "/v1/tokens",
            json!({"name": "x", "role": "viewer", "valid_seconds": 1}),
            422,
            "validity_invalid",
        ),
        (
            "/v1/tokens",
            json!({"name": "x", "role": "king"}),
            422,
            "json_unexpected",
        ),
        (
            "/v1/enrollment-tokens",
            json!({"host_name": "a b"}),
            422,
            "host_name_invalid",
        ),
        (
            &format!("/v1/tokens/{HOST}/revoke"),
            json!({}),
            404,
            "token_unknown",
        ),
        (&format!("/v1/hosts/{HOST}/drain"), json!({}), 404, "host_unknown"),
        (
            &format!("/v1/hosts/{HOST}/revoke"),
            json!({}),
            404,
            "host_unknown",
        ),
    ];
    for (path, body, status, code) in cases {
        problem(plane.post(path, &body).await, status, code).await;
        assert_eq!(plane.head().await, head, "{path} {body}");
    }
    let policy = plane
        .request(Method::PUT, "/v1/policy")
        .header("idempotency-key", "a")
        .json(&json!({"policy": []}));
    problem(policy.send().await.unwrap(), 422, "json_unexpected").await;
    let rollback = plane.post("/v1/kernels/rollback", &json!({})).await;
    assert_eq!(rollback.status(), StatusCode::CONFLICT);
    assert_eq!(plane.head().await, head);
}

#[tokio::test]
async fn heartbeats_that_say_nonsense_are_refused() {
    let plane = start().await;
    let host = plane.host("host-a").await;
    let outcome = |change: Value| {
        let mut one = json!({
            "release": crate::plane::release(1).to_string(), "window": "2026-11-24T10:00:00Z", "outcome": "ready", "count": 1
        });
        for (name, value) in change.as_object().unwrap() {
            one[name] = value.clone();
        }
        json!({"sequence": 1, "outcomes": [one]})
    };
    let release = crate::plane::release(1);
    let mut twice = crate::plane::status(&[&release, &release]);
    twice["vmm"] = json!("x");
    let mut long = crate::plane::status(&[&release]);
    long["problems"] = json!(["x".repeat(2_000)]);
    let many: Vec<Value> = vec![outcome(json!({}))["outcomes"][0].clone(); 257];
    let cases = [
        json!({"stream": "x"}),
        json!({"sequence": u64::MAX}),
        outcome(json!({"count": 0})),
        outcome(json!({"window": "2026-11-24T10:00:30Z"})),
        outcome(json!({"ready_ms_total": 9_000_000_000_u64})),
        json!({"sequence": 0, "outcomes": outcome(json!({}))["outcomes"]}),
        json!({"sequence": 1, "outcomes": many}),
        json!({"sequence": 1, "status": twice}),
        json!({"sequence": 1, "status": long}),
        json!({"wants": vec![release.to_string(); 17]}),
    ];
    for case in cases {
        let mut asked = serde_json::to_value(beat(1)).unwrap();
        for (name, value) in case.as_object().unwrap() {
            asked[name] = value.clone();
        }
        problem(host.post("heartbeat", &asked).await, 422, "heartbeat_invalid").await;
    }
}

#[tokio::test]
async fn a_clock_that_is_far_ahead_and_releases_that_nobody_listed_spoil_nothing() {
    let plane = start().await;
    let host = plane.host("host-a").await;
    let listed = plane.find(1).await;
    let outcome = |release: &str, window: &str| json!({"release": release, "window": window, "outcome": "ready", "count": 1});
    let mut asked = serde_json::to_value(beat(1)).unwrap();
    asked["outcomes"] = json!([
        outcome(&listed.to_string(), "2126-11-24T10:00:00Z"),
        outcome("9.9.9-madeup+guestinit-9.9.9-madeup", "2026-11-24T10:00:00Z"),
    ]);
    let answer = host.post("heartbeat", &asked).await;
    assert_eq!(answer.status(), 200);
    let totals = plane.running.control.store().boot_totals().await.unwrap();
    assert_eq!(
        totals
            .iter()
            .map(|total| (&total.release, total.count))
            .collect::<Vec<_>>(),
        [(&listed, 1)]
    );
    let minutes = plane
        .running
        .control
        .store()
        .host_boots(&listed, jiff::Timestamp::UNIX_EPOCH)
        .await
        .unwrap();
    assert_eq!(minutes.len(), 1);
}

#[tokio::test]
async fn enrolment_takes_a_right_request_only() {
    let plane = start().await;
    let token = plane.enrollment_token().await.token;
    let head = plane.head().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let p521 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    problem(plane.enroll(&token, "host-a", "x").await, 422, "csr_malformed").await;
    problem(
        plane.enroll(&token, "host-a", &csr(&p521)).await,
        422,
        "csr_key_refused",
    )
    .await;
    problem(
        plane.enroll(&token, "a b", &csr(&key)).await,
        422,
        "host_name_invalid",
    )
    .await;
    problem(
        plane.enroll("x", "host-a", &csr(&key)).await,
        401,
        "enrollment_token_invalid",
    )
    .await;
    problem(
        plane.enroll(&plane.admin, "host-a", &csr(&key)).await,
        401,
        "enrollment_token_invalid",
    )
    .await;
    let wrong = token[..token.len() - 43].to_owned() + &"A".repeat(43);
    problem(
        plane.enroll(&wrong, "host-a", &csr(&key)).await,
        401,
        "enrollment_token_invalid",
    )
    .await;
    assert_eq!(plane.head().await, head, "and the token is not used up");
    let enrolled = plane.enroll(&token, "host-a", &csr(&key)).await;
    let enrolled: EnrolledHost = enrolled.json().await.unwrap();
    let host = Host::new(&plane, enrolled, &key);
    assert_eq!(host.beat(&beat(0)).await.status(), StatusCode::OK);
}
