//! A control plane that is just enough for a host's identity: TLS, client certificates, single-use tokens.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use jiff::{SignedDuration, Timestamp};
use plfm_api::Problem;
use plfm_api::control::{EnrollHost, EnrolledHost, Generation, Heartbeat, HeartbeatAnswer, RenewCertificate};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa, KeyPair,
    SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

pub const HOST: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// What somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Enroll {
        token: String,
        key: Vec<u8>,
    },
    Renew {
        key: Vec<u8>,
    },
    /// With the certificate of this number.
    Heartbeat {
        certificate: usize,
    },
    Target,
}

struct Shared {
    issuer: CertifiedIssuer<'static, KeyPair>,
    state: Mutex<Ledger>,
    news: Notify,
}

#[derive(Default)]
struct Ledger {
    asked: Vec<Asked>,
    issued: Vec<Vec<u8>>,
    used: Vec<(String, Vec<u8>)>,
    /// Certificates up to this number are over.
    expired: usize,
    lose: usize,
    renew_at_once: bool,
}

pub struct TestServer {
    shared: Arc<Shared>,
    address: SocketAddr,
}

/// The client's certificate, as TLS verified it.
#[derive(Clone)]
struct Peer(Option<Vec<u8>>);

impl TestServer {
    pub async fn start() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let acceptor = acceptor(&issuer);
        let shared = Arc::new(Shared {
            issuer,
            state: Mutex::default(),
            news: Notify::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, acceptor, shared.clone()));
        Self { shared, address }
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}/", self.address.port())
    }

    pub fn ca(&self) -> String {
        self.shared.issuer.pem()
    }

    fn state(&self) -> MutexGuard<'_, Ledger> {
        self.shared.state.lock().unwrap()
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// The next so many answers to enrolments get lost.
    pub fn lose_answers(&self, answers: usize) {
        self.state().lose = answers;
    }

    /// The first certificate is due at once, those after it in a while.
    pub fn renew_at_once(&self) {
        self.state().renew_at_once = true;
    }

    pub fn expire_certificates(&self) {
        let mut state = self.state();
        state.expired = state.issued.len();
    }

    pub async fn wait_for(&self, enough: impl Fn(&[Asked]) -> bool) {
        loop {
            let news = self.shared.news.notified();
            if enough(&self.state().asked) {
                return;
            }
            news.await;
        }
    }
}

fn acceptor(issuer: &CertifiedIssuer<'static, KeyPair>) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let router = Router::new()
        .route("/v1/hosts/enroll", post(enroll))
        .route("/v1/hosts/{id}/certificate", post(renew))
        .route("/v1/hosts/{id}/heartbeat", post(heartbeat))
        .route("/v1/hosts/{id}/target", get(target))
        .with_state(shared);
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let peer = stream.get_ref().1.peer_certificates();
            let peer = peer
                .and_then(|chain| chain.first())
                .map(|leaf: &CertificateDer| leaf.to_vec());
            let service = TowerToHyperService::new(router.layer(Extension(Peer(peer))));
            let _ = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn problem(status: StatusCode, code: &str) -> Response {
    let problem = Problem {
        kind: "about:blank".to_owned(),
        title: String::new(),
        status: status.as_u16(),
        code: code.to_owned(),
        detail: "no".to_owned(),
        hint: None,
        retryable: false,
        request_id: String::new(),
    };
    (status, Json(problem)).into_response()
}

impl Shared {
    fn note(&self, asked: Asked) {
        self.state.lock().unwrap().asked.push(asked);
        self.news.notify_waiters();
    }

    fn issue(&self, csr: &str) -> (Vec<u8>, EnrolledHost) {
        let mut request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        let mut state = self.state.lock().unwrap();
        request.params.serial_number =
            Some(SerialNumber::from(u64::try_from(state.issued.len()).unwrap() + 1));
        let certificate = request.signed_by(&self.issuer).unwrap();
        let renew_after = match state.renew_at_once && state.issued.is_empty() {
            true => Timestamp::UNIX_EPOCH,
            false => Timestamp::now() + SignedDuration::from_hours(24),
        };
        state.issued.push(certificate.der().to_vec());
        let enrolled = EnrolledHost {
            host: HOST.parse().unwrap(),
            certificate: certificate.pem(),
            not_after: Timestamp::MAX,
            renew_after,
        };
        (
            rcgen::PublicKeyData::subject_public_key_info(&request.public_key),
            enrolled,
        )
    }

    /// The number of a host's certificate, if it still counts.
    fn check(&self, peer: &Peer) -> Result<usize, Box<Response>> {
        let state = self.state.lock().unwrap();
        let number = state
            .issued
            .iter()
            .position(|issued| Some(issued) == peer.0.as_ref());
        match number {
            Some(number) if number >= state.expired => Ok(number),
            Some(_) => Err(Box::new(problem(StatusCode::UNAUTHORIZED, "certificate_expired"))),
            None => Err(Box::new(problem(StatusCode::UNAUTHORIZED, "certificate_missing"))),
        }
    }
}

async fn enroll(State(shared): State<Arc<Shared>>, Json(request): Json<EnrollHost>) -> Response {
    let (key, enrolled) = shared.issue(&request.csr);
    let asked = Asked::Enroll {
        token: request.token.clone(),
        key: key.clone(),
    };
    let (is_taken, is_lost) = {
        let mut state = shared.state.lock().unwrap();
        let is_used = state
            .used
            .iter()
            .any(|(token, other)| *token == request.token && *other != key);
        if !is_used {
            state.used.push((request.token, key));
        }
        let is_lost = state.lose > 0;
        state.lose = state.lose.saturating_sub(1);
        (!is_used, is_lost)
    };
    shared.note(asked);
    match (is_taken, is_lost) {
        (false, _) => problem(StatusCode::UNAUTHORIZED, "enrollment_token_invalid"),
        (true, true) => problem(StatusCode::BAD_GATEWAY, "lost"),
        (true, false) => Json(enrolled).into_response(),
    }
}

async fn renew(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Json(request): Json<RenewCertificate>,
) -> Response {
    if let Err(refused) = shared.check(&peer) {
        return *refused;
    }
    let (key, enrolled) = shared.issue(&request.csr);
    shared.note(Asked::Renew { key });
    Json(enrolled).into_response()
}

async fn heartbeat(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Json(beat): Json<Heartbeat>,
) -> Response {
    match shared.check(&peer) {
        Err(refused) => *refused,
        Ok(certificate) => {
            shared.note(Asked::Heartbeat { certificate });
            Json(HeartbeatAnswer {
                sequence: beat.sequence,
                generation: Generation(0),
                target: None,
                next_heartbeat_ms: 200,
                send_status: false,
                may_fetch: Vec::new(),
                drain: false,
            })
            .into_response()
        }
    }
}

async fn target(State(shared): State<Arc<Shared>>, Extension(peer): Extension<Peer>) -> Response {
    match shared.check(&peer) {
        Err(refused) => *refused,
        Ok(_) => {
            shared.note(Asked::Target);
            StatusCode::NO_CONTENT.into_response()
        }
    }
}
