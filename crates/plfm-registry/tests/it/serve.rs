use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Response, StatusCode};
use plfm_registry::{Store, serve};
use plfm_release::Sha256Digest;
use tower::ServiceExt as _;

use crate::fixture::{Signer, release};

async fn directory() -> (tempfile::TempDir, String) {
    let signer = Signer::new();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap(), []).unwrap();
    let mut repository = signer.init(store).await.unwrap();
    repository
        .publish(&release("a", "a"), &signer.signing())
        .await
        .unwrap();
    let kernel = format!("/targets/{}.vmlinuz-plfm-6.1.50-a", Sha256Digest::of(b"kernel a"));
    (dir, kernel)
}

async fn ask(dir: &tempfile::TempDir, method: Method, uri: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).unwrap();
    serve::router(dir.path()).oneshot(request).await.unwrap()
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

async fn body(response: Response<Body>) -> Vec<u8> {
    to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()
}

#[tokio::test]
async fn versioned_names_may_be_kept_for_ever_and_the_timestamp_never() {
    let (dir, kernel) = directory().await;
    for uri in [kernel.as_str(), "/metadata/1.root.json"] {
        let response = ask(&dir, Method::GET, uri, &[]).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(header(&response, "cache-control").contains("immutable"), "{uri}");
    }
    let response = ask(&dir, Method::GET, "/metadata/timestamp.json", &[]).await;
    assert_eq!(header(&response, "cache-control"), "no-cache");
    let tag = header(&response, "etag").to_owned();
    let timestamp = std::fs::read(dir.path().join("metadata/timestamp.json")).unwrap();
    assert_eq!(body(response).await, timestamp);
    let response = ask(
        &dir,
        Method::GET,
        "/metadata/timestamp.json",
        &[("if-none-match", &tag)],
    )
    .await;
    assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
    let response = ask(&dir, Method::GET, "/metadata/2.root.json", &[]).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(header(&response, "cache-control"), "no-store");
}

#[tokio::test]
async fn a_range_is_a_part_and_only_of_the_same_bytes() {
    let (dir, kernel) = directory().await;
    let response = ask(&dir, Method::GET, &kernel, &[("range", "bytes=3-")]).await;
    assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(header(&response, "content-range"), "bytes 3-7/8");
    let tag = header(&response, "etag").to_owned();
    assert_eq!(body(response).await, b"nel a");
    let response = ask(
        &dir,
        Method::GET,
        &kernel,
        &[("range", "bytes=3-"), ("if-range", &tag)],
    )
    .await;
    assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
    let response = ask(
        &dir,
        Method::GET,
        &kernel,
        &[("range", "bytes=3-"), ("if-range", "\"x\"")],
    )
    .await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(body(response).await, b"kernel a");
    let response = ask(&dir, Method::GET, &kernel, &[("range", "bytes=8-")]).await;
    assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    let response = ask(&dir, Method::HEAD, &kernel, &[]).await;
    assert_eq!(header(&response, "content-length"), "8");
    assert!(body(response).await.is_empty());
}

#[tokio::test]
async fn no_path_leads_out_of_the_directory() {
    let (dir, _) = directory().await;
    std::fs::write(dir.path().join("secret"), "s").unwrap();
    std::os::unix::fs::symlink("../secret", dir.path().join("metadata/9.root.json")).unwrap();
    let digest = "0".repeat(64);
    std::os::unix::fs::symlink("../secret", dir.path().join(format!("targets/{digest}.x"))).unwrap();
    for uri in [
        "/secret",
        "/.lock",
        "/metadata/../secret",
        "/metadata/..%2Fsecret",
        "/metadata/%2e%2e/secret",
        "/targets/..%2f..%2fetc%2fpasswd",
        "/metadata//etc/passwd",
        "/metadata/",
        "/metadata/9.root.json",
        &format!("/targets/{digest}.x"),
        "/targets/x",
    ] {
        let response = ask(&dir, Method::GET, uri, &[]).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{uri}");
    }
    let response = ask(&dir, Method::PUT, "/metadata/timestamp.json", &[]).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn the_server_stops_when_told() {
    let (dir, _) = directory().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async move { stopped.await.unwrap_or_default() };
    let server = tokio::spawn(serve::serve(listener, serve::router(dir.path()), stopped));
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}
