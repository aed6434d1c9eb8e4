//! A host, as the control plane sees one: it enrols with a key of its own and says how it is.

use jiff::Timestamp;
use plfm_api::control::{
    Advertisement, EnrollHost, EnrolledHost, Generation, Heartbeat, HeartbeatAnswer, HostId, HostRelease,
    HostStatus, OutcomeCount,
};
use plfm_api::{BootOutcome, ReleaseState};
use plfm_release::ReleaseId;

/// A host that enrolled.
pub struct Host {
    pub id: HostId,
    http: reqwest::Client,
    url: String,
    stream: String,
    sequence: u64,
    /// The generation that it goes by.
    pub generation: Generation,
    releases: Vec<HostRelease>,
    /// What is wrong there.
    pub problems: Vec<String>,
    outcomes: Vec<OutcomeCount>,
    /// The guest init protocols that its agent speaks.
    pub protocols: Vec<u32>,
}

impl Host {
    /// Enrols with a token.
    pub async fn enroll(url: &str, ca: &str, token: &str, name: &str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        let csr = params.serialize_request(&key).unwrap().pem().unwrap();
        let ca = reqwest::Certificate::from_pem(ca.as_bytes()).unwrap();
        let client = || reqwest::Client::builder().tls_certs_only([ca.clone()]);
        let asked = EnrollHost {
            token: token.to_owned(),
            name: name.to_owned(),
            csr,
            agent_version: semver::Version::new(1, 0, 0),
            arch: plfm_release::Architecture::X86_64,
        };
        let enroll = client()
            .build()
            .unwrap()
            .post(format!("{url}/v1/hosts/enroll"))
            .json(&asked);
        let answer = enroll.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
        let enrolled: EnrolledHost = answer.json().await.unwrap();
        let identity = format!("{}{}", enrolled.certificate, key.serialize_pem());
        let identity = reqwest::Identity::from_pem(identity.as_bytes()).unwrap();
        Self {
            id: enrolled.host,
            http: client().identity(identity).build().unwrap(),
            url: url.to_owned(),
            stream: ulid::Ulid::generate().to_string(),
            sequence: 0,
            generation: Generation(0),
            releases: Vec::new(),
            problems: Vec::new(),
            outcomes: Vec::new(),
            protocols: vec![1, 2],
        }
    }

    /// Has a release installed, and so many instances on it.
    pub fn install(&mut self, release: &ReleaseId, instances: u32) {
        self.releases.push(HostRelease {
            release: release.clone(),
            state: ReleaseState::Installed,
            instances,
        });
    }

    /// New instances boot this one from now on.
    pub fn boot_by_default(&mut self, release: &ReleaseId) {
        for installed in &mut self.releases {
            installed.state = match installed.release == *release {
                true => ReleaseState::Current,
                false => ReleaseState::Installed,
            };
        }
    }

    /// Boots that ended.
    pub fn booted(&mut self, release: &ReleaseId, outcome: BootOutcome, count: u32) {
        let now = Timestamp::now().as_second();
        self.outcomes.push(OutcomeCount {
            release: release.clone(),
            window: Timestamp::from_second(now - now % 60).unwrap(),
            outcome,
            count,
            ready_ms_total: 0,
            ready_ms_max: 0,
            ready_ms_buckets: Vec::new(),
        });
    }

    /// Says how it is, and goes by what it is told.
    pub async fn beat(&mut self) -> HeartbeatAnswer {
        self.sequence += 1;
        let heartbeat = Heartbeat {
            stream: self.stream.clone(),
            sequence: self.sequence,
            agent_version: semver::Version::new(1, 0, 0),
            generation: self.generation,
            status: Some(self.status()),
            outcomes: std::mem::take(&mut self.outcomes),
            wants: Vec::new(),
        };
        let url = format!("{}/v1/hosts/{}/heartbeat", self.url, self.id);
        let answer = self.http.post(url).json(&heartbeat).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
        let answer: HeartbeatAnswer = answer.json().await.unwrap();
        assert_eq!(answer.sequence, self.sequence);
        answer
    }

    /// Boots the default that the control plane wants, if it has it, and says so.
    pub async fn follow(&mut self) {
        let answer = self.beat().await;
        let Some(target) = answer.target else { return };
        self.generation = target.generation;
        if let Some(default) = target.default {
            self.boot_by_default(&default);
        }
        self.beat().await;
    }

    fn status(&self) -> HostStatus {
        let current = self
            .releases
            .iter()
            .find(|release| release.state == ReleaseState::Current);
        HostStatus {
            advertisement: Advertisement {
                kernel_versions: self
                    .releases
                    .iter()
                    .map(|release| release.release.kernel.clone())
                    .collect(),
                guest_init_protocols: self.protocols.clone(),
                current_default: current.map(|current| plfm_api::control::CurrentDefault {
                    kernel: current.release.kernel.clone(),
                    initramfs: current.release.initramfs.clone(),
                }),
            },
            arch: plfm_release::Architecture::X86_64,
            vmm: "qemu-kvm".to_owned(),
            releases: self.releases.clone(),
            problems: self.problems.clone(),
        }
    }
}
