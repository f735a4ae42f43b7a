//! The contract between the programs of Push.
//!
//! The bucket, and the packages in it, are the only things `release`, `push` and `pulld` share. This crate is the only
//! one that knows what lies where ([`layout`]), what the JSON looks like, and what a package says of its release
//! ([`package`]). The programs depend on it, never on each other.
//!
//! - names, parsed once at the edge: [`AppName`], [`ReleaseName`], [`ServerName`], [`ChannelName`],
//!   [`ObjectPath`], [`Sha256`]
//! - what a release carries inside its `.deb`: [`ReleaseFields`] and [`Provenance`], in a [`Control`] file
//! - documents: [`ServerDocument`], [`ReleaseMetadata`], [`Status`], [`Push`], [`HistoryEntry`], [`Channel`],
//!   [`Run`]
//! - where they are kept: [`Bucket`], which is `gs://` or `file://`, and the verbs on it
//! - access to Google Cloud, for whatever a program asks there: [`Credentials`], [`Tokens`]
//! - what is told of a new release over Pub/Sub: [`Announcement`], [`Topic`], [`Subscription`]
//! - [`Error`], with only the cases that a caller branches on

#![doc(html_no_source)]

// First: its macro is for those below.
#[macro_use]
mod name;

mod ahead;
mod announcement;
mod app_name;
mod artifact;
mod artifact_path;
mod ascii;
mod backend;
mod bucket_url;
mod build_id;
mod buildset;
mod candidate;
mod change;
mod change_id;
mod channel;
mod channel_name;
mod channel_state;
mod clock;
mod document_metadata;
mod download;
mod error;
mod file;
mod gcs;
mod halt;
mod history;
mod hold;
mod image;
mod image_candidate;
mod image_tag;
mod layout;
mod listing;
mod made_by;
mod newest;
mod object;
mod options;
mod original;
mod overlay;
mod package;
mod pipeline_name;
mod promoted;
mod pubsub_name;
mod push;
mod push_id;
mod push_kind;
mod random_word;
mod rejection;
mod release;
mod release_name;
mod retired;
mod rollout;
mod run;
mod run_id;
mod run_record;
mod segment;
mod server_document;
mod server_name;
mod sha256;
mod simulated;
mod source_file;
mod status;
mod watcher_report;

pub use ahead::{Ahead, NotAhead};
pub use announcement::{Announcement, NotAnnounced};
pub use app_name::AppName;
pub use artifact::{Artifact, ArtifactPlace};
pub use artifact_path::ArtifactPath;
pub use backend::Bucket;
pub use bucket_url::BucketUrl;
pub use build_id::BuildId;
pub use buildset::{Buildset, BuildsetSummary};
pub use candidate::{Candidate, CandidateMetadata, CandidatePlace};
pub use change::{ArtifactType, Change, ChangeState, ChangeSummary, RecordedCandidate, Try, TryResult};
pub use change_id::ChangeId;
pub use channel::{Channel, ChannelSummary, Frozen, Move, MoveKind, RolledBackBy};
pub use channel_name::ChannelName;
pub use channel_state::{ChannelState, LaterCommit, OffChannel, OffState, OnOlderBase, Soaking};
pub use document_metadata::{DocumentMetadata, LastPush, Retry, ToldHold};
pub use download::Download;
pub use error::Error;
pub use file::{FileBucket, NewBucket, overlay::Removal};
pub use gcs::{
    Firmware, GcsBucket, NoToken, PRODUCT_NAME, PubSubError, Pulled, Subscription, Tokens, Topic, chain, firmware,
    no_tls,
};
pub use halt::Halt;
pub use history::HistoryEntry;
pub use hold::{HeldTrial, Hold, Holds};
pub use image::{Image, ImageSummary, PromotedImage};
pub use image_candidate::{ImageCandidate, ImagePlace};
pub use image_tag::ImageTag;
pub use layout::ObjectPath;
pub use listing::{Page, PageToken, items};
pub use made_by::MadeBy;
pub use name::NameError;
pub use object::{Fetched, Generation, Metadata, Object, ObjectInfo};
pub use options::{BucketOptions, Credentials, PubSubOptions};
pub use original::OriginalRelease;
pub use overlay::Overlay;
pub use package::{
    check::{Check, CheckPace, Probe},
    command::CheckCommand,
    control::{Control, ControlError},
    facts::PackageFacts,
    fields::{Provenance, ReleaseFields},
    loopback::{HttpProbe, LoopbackAddress},
    name::{Architecture, PackageName},
    note::Note,
    unit::{OwnedUnit, UnitAction, UnitName},
};
pub use pipeline_name::{PipelineName, StageName};
pub use promoted::Promoted;
pub use pubsub_name::{SubscriptionName, TopicName};
pub use push::{Push, PushEnd, PushHead, PushRow, UnwrittenCause, UnwrittenRow};
pub use push_id::PushId;
pub use push_kind::PushKind;
pub use rejection::Rejection;
pub use release::{PassedOver, Release, ReleaseMetadata};
pub use release_name::{Commit, ReleaseName, ReleaseParts, SharedNames};
pub use retired::{RetiredDocument, Retirement};
pub use rollout::{
    Budget, Driven, Rollout, RolloutHead, RolloutRules, RolloutStage, RolloutSummary, Uncounted, Undo, Verdict, Wave,
    WaveRow, Written,
};
pub use run::{KeptArtifact, PipelineRun, PublishedImage, PublishedRelease, Run, RunResult, StageResult, StageRun};
pub use run_id::{RunId, RunPlace};
pub use run_record::{PipelineHead, RunHead, RunSummary};
pub use server_document::{DocumentSummary, Entry, ServerDocument};
pub use server_name::ServerName;
pub use sha256::Sha256;
pub use simulated::SimulatedMachine;
pub use source_file::SourceFile;
pub use status::{
    Activity, AgentStatus, AppState, AppStatus, BadEntry, DocumentStatus, Event, ServerState, Status, StatusSummary,
    UnitStatus,
};
pub use watcher_report::WatcherReport;

/// A time as the bucket's objects carry it: UTC, RFC 3339, shown with a `Z`.
pub use jiff::Timestamp;
