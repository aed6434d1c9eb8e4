//! One file of one mirror, from an offset on, as a stream.

use std::path::Path;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use jiff::Timestamp;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderName, IF_RANGE, RANGE,
};
use reqwest::{Client, StatusCode, redirect};
use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom};
use tokio::time::timeout;
use url::Url;

use super::pace::Pace;
use super::{ContentRange, Mirror, ReadFault, Settings};

/// How much of a local file is read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// The bytes of an answer, as they come.
pub(crate) type Body = Pin<Box<dyn Stream<Item = Result<Bytes, ReadFault>> + Send>>;

/// Which part of which file is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    /// The path below the mirror's base, of `[a-z0-9./-]`.
    pub(crate) path: &'a str,
    /// The first byte that is wanted.
    pub(crate) first: u64,
    /// The file's whole length; must be known when `first` is not 0.
    pub(crate) complete: u64,
    /// The entity tag that this mirror gave with the bytes before `first`.
    pub(crate) etag: Option<&'a str>,
}

impl<'a> Part<'a> {
    /// A whole file of unknown length.
    pub(crate) fn whole(path: &'a str) -> Self {
        Self {
            path,
            first: 0,
            complete: 0,
            etag: None,
        }
    }
}

/// An answer.
pub(crate) struct Opened {
    /// Where the body begins: at the byte that was asked for, or at 0 if the server sends the whole file.
    pub(crate) first: u64,
    /// The bytes.
    pub(crate) body: Body,
    /// A strong entity tag.
    pub(crate) etag: Option<String>,
    /// What time the server says it is. For words only.
    pub(crate) date: Option<Timestamp>,
}

/// Opens files of mirrors.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    http: Client,
    settings: Settings,
}

impl Source {
    /// A source with its own connections.
    pub(crate) fn new(settings: Settings) -> Result<Self, reqwest::Error> {
        let http = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .connect_timeout(settings.connect_timeout)
            .user_agent(concat!("plfm-registry/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, settings })
    }

    /// Opens `part` of a file. `Ok(None)`: the server says that there is no such part (status 416).
    pub(crate) async fn open(&self, mirror: &Mirror, part: Part<'_>) -> Result<Option<Opened>, ReadFault> {
        match mirror {
            Mirror::Http(base) => self.open_http(base, part).await,
            Mirror::Dir(dir) => open_file(&dir.join(part.path), part.first).await.map(Some),
        }
    }

    /// Reads a whole small file, at most `bytes_max` of it. `Ok(None)`: it is longer.
    pub(crate) async fn read(
        &self,
        mirror: &Mirror,
        path: &str,
        bytes_max: u64,
    ) -> Result<(Option<Vec<u8>>, Option<Timestamp>), ReadFault> {
        let Some(mut opened) = self.open(mirror, Part::whole(path)).await? else {
            return Err(ReadFault::Refused(416));
        };
        let mut pace = Pace::new(&self.settings);
        let mut content = Vec::new();
        while let Some(piece) = pace.next(&mut opened.body).await {
            content.extend_from_slice(&piece?);
            if content.len() as u64 > bytes_max {
                return Ok((None, opened.date));
            }
        }
        Ok((Some(content), opened.date))
    }

    async fn open_http(&self, base: &Url, part: Part<'_>) -> Result<Option<Opened>, ReadFault> {
        // The path's alphabet is closed, so joining cannot fail or lead elsewhere.
        let url = base.join(part.path).map_err(|_| ReadFault::NotThere)?;
        let mut request = self.http.get(url).header(ACCEPT_ENCODING, "identity");
        if part.first > 0 {
            request = request.header(RANGE, format!("bytes={}-", part.first));
            if let Some(etag) = part.etag {
                request = request.header(IF_RANGE, etag);
            }
        }
        let idle = self.settings.idle_timeout;
        let response = timeout(self.settings.connect_timeout + idle, request.send())
            .await
            .map_err(|_| ReadFault::Silent(idle))?
            .map_err(ReadFault::Unreachable)?;
        let headers = response.headers();
        let first = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT => {
                check_range(headers, part)?;
                part.first
            }
            StatusCode::RANGE_NOT_SATISFIABLE if part.first > 0 => return Ok(None),
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(ReadFault::NotThere),
            other => return Err(ReadFault::Refused(other.as_u16())),
        };
        check_encoding(headers)?;
        let date = text(headers, DATE)
            .and_then(|date| httpdate::parse_http_date(date).ok())
            .and_then(|date| Timestamp::try_from(date).ok());
        // A weak tag promises the same meaning, not the same bytes (RFC 9110, section 8.8.1).
        let etag = text(headers, ETAG)
            .filter(|etag| etag.starts_with('"'))
            .map(str::to_owned);
        let body = response.bytes_stream().map(|piece| piece.map_err(ReadFault::Cut));
        Ok(Some(Opened {
            first,
            body: Box::pin(body),
            etag,
            date,
        }))
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// An answer with status 206 has to hold exactly what was asked for: from there to the end.
fn check_range(headers: &HeaderMap, part: Part<'_>) -> Result<(), ReadFault> {
    let asked = ContentRange::rest_of(part.complete, part.first);
    let found = text(headers, CONTENT_RANGE).unwrap_or("none");
    if part.first > 0 && asked.is_some() && found.parse::<ContentRange>().ok() == asked {
        return Ok(());
    }
    Err(ReadFault::WrongRange {
        asked: asked.map_or("the whole file".to_owned(), |asked| asked.to_string()),
        found: found.chars().take(80).collect(),
    })
}

fn check_encoding(headers: &HeaderMap) -> Result<(), ReadFault> {
    match headers.get(CONTENT_ENCODING).map(|encoding| encoding.as_bytes()) {
        None | Some(b"identity") => Ok(()),
        Some(other) => {
            let encoding = String::from_utf8_lossy(other).chars().take(80).collect();
            Err(ReadFault::Encoded(encoding))
        }
    }
}

async fn open_file(path: &Path, first: u64) -> Result<Opened, ReadFault> {
    let fail = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => ReadFault::NotThere,
        _ => ReadFault::Directory(error),
    };
    let path = path.to_owned();
    // Not blocking: a pipe in the file's place must not be waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = tokio::task::spawn_blocking(move || -> std::io::Result<std::fs::File> {
        let file = std::fs::File::from(rustix::fs::open(&path, flags, Mode::empty())?);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(std::io::Error::other("it is not a regular file"))
        }
    });
    let file = opened
        .await
        .map_err(std::io::Error::other)
        .and_then(|file| file)
        .map_err(fail)?;
    let mut file = tokio::fs::File::from_std(file);
    file.seek(SeekFrom::Start(first)).await.map_err(fail)?;
    let body = stream::try_unfold(file, move |mut file| async move {
        let mut piece = vec![0; CHUNK_BYTES];
        let read = file.read(&mut piece).await.map_err(ReadFault::Directory)?;
        piece.truncate(read);
        Ok((read > 0).then(|| (Bytes::from(piece), file)))
    });
    Ok(Opened {
        first,
        body: Box::pin(body),
        etag: None,
        date: None,
    })
}
