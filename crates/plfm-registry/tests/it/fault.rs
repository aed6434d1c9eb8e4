//! An object store that stops working after so many operations, as if the publisher had been killed there, and that
//! can let somebody else in at that moment.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What happens at the operation that is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// It is not carried out.
    Lost,
    /// It is carried out, and the answer is lost.
    Unanswered,
}

/// What is run at one operation.
type Interruption = Mutex<Option<(usize, BoxFuture<'static, ()>)>>;

pub struct Faulty {
    inner: Arc<InMemory>,
    done: AtomicUsize,
    stop: Option<(usize, Last)>,
    interruption: Interruption,
    older: Mutex<HashMap<Path, Duration>>,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("store")
    }
}

fn dead() -> Error {
    Error::Generic {
        store: "faulty",
        source: "the publisher is dead".into(),
    }
}

impl Faulty {
    pub fn new(inner: Arc<InMemory>, stop: Option<(usize, Last)>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            done: AtomicUsize::new(0),
            stop,
            interruption: Mutex::new(None),
            older: Mutex::new(HashMap::new()),
        })
    }

    /// Has `other` run before operation number `at`.
    pub fn interrupted(inner: Arc<InMemory>, at: usize, other: BoxFuture<'static, ()>) -> Arc<Self> {
        let store = Self::new(inner, None);
        *store.interruption.lock().unwrap() = Some((at, other));
        store
    }

    /// Whether the last operation came.
    pub fn has_stopped(&self) -> bool {
        self.stop
            .is_some_and(|(stop, _)| self.done.load(Ordering::SeqCst) > stop)
    }

    /// How many operations there were.
    pub fn operations(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    /// Makes everything that is there now look as if it had been put that much earlier.
    pub async fn age(&self, by: Duration) {
        let there: Vec<_> = self.inner.list(None).collect().await;
        let mut older = self.older.lock().unwrap();
        for meta in there {
            *older.entry(meta.unwrap().location).or_default() += by;
        }
    }

    fn aged(&self, mut meta: ObjectMeta) -> ObjectMeta {
        if let Some(by) = self.older.lock().unwrap().get(&meta.location) {
            meta.last_modified -= *by;
        }
        meta
    }

    /// Counts an operation; says whether it is carried out and whether it is answered.
    async fn begin(&self) -> (bool, bool) {
        let number = self.done.fetch_add(1, Ordering::SeqCst);
        let due = {
            let mut interruption = self.interruption.lock().unwrap();
            interruption.take_if(|(at, _)| *at == number)
        };
        if let Some((_, other)) = due {
            other.await;
        }
        match self.stop {
            Some((stop, last)) if number == stop => (last == Last::Unanswered, false),
            Some((stop, _)) if number > stop => (false, false),
            _ => (true, true),
        }
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, to: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let (carried_out, answered) = self.begin().await;
        let result = match carried_out {
            true => self.inner.put_opts(to, payload, opts).await,
            false => Err(dead()),
        };
        if result.is_ok() {
            self.older.lock().unwrap().remove(to);
        }
        if answered { result } else { Err(dead()) }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(dead())
    }

    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        if let (_, false) = self.begin().await {
            return Err(dead());
        }
        let mut result = self.inner.get_opts(from, options).await?;
        result.meta = self.aged(result.meta);
        Ok(result)
    }

    async fn get_ranges(&self, _: &Path, _: &[Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        Err(dead())
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let number = self.done.fetch_add(1, Ordering::SeqCst);
        match self.stop {
            Some((stop, Last::Unanswered)) if number == stop => {
                let inner = self.inner.delete_stream(paths);
                inner.map(|_| Err(dead())).boxed()
            }
            Some((stop, _)) if number >= stop => paths.map(|_| Err(dead())).boxed(),
            _ => self.inner.delete_stream(paths),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let number = self.done.fetch_add(1, Ordering::SeqCst);
        if self.stop.is_some_and(|(stop, _)| number >= stop) {
            return futures_util::stream::once(async { Err(dead()) }).boxed();
        }
        let older = self.older.lock().unwrap().clone();
        let inner = self.inner.list(prefix);
        inner
            .map(move |meta| {
                meta.map(|mut meta| {
                    meta.last_modified -= older.get(&meta.location).copied().unwrap_or_default();
                    meta
                })
            })
            .boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(dead())
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(dead())
    }
}
