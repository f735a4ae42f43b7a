//! One suite, two backends: every case of `cases/` runs on `file://` and on `gs://`, and must not tell them apart.
//!
//! `gs://` is the harness's fake, or the server that `CONFORMANCE_GCS_ENDPOINT` names, as Google's own
//! `storage-testbench`. A server that misbehaves (`faults.rs`, `verbs.rs`) is always the fake.

mod cases;
mod copies;
mod directory;
mod faults;
mod other_bytes;
mod refusals;
mod uploads;
mod verbs;
mod world;

/// Makes each case a test on each backend.
macro_rules! on_both {
    ($($about:ident { $($case:ident)* })*) => {
        mod file {
            $($(#[tokio::test]
            async fn $case() {
                crate::cases::$about::$case(crate::world::World::file().await).await;
            })*)*
        }
        mod gcs {
            $($(#[tokio::test]
            async fn $case() {
                crate::cases::$about::$case(crate::world::World::gcs().await).await;
            })*)*
        }
    };
}

on_both! {
    objects {
        what_was_created_is_read_back
        an_empty_object_is_not_absent
        a_second_create_is_refused_and_changes_nothing
        a_stale_generation_is_refused_and_changes_nothing
        an_absent_object_is_not_replaced
        generations_grow_and_are_not_used_again_after_a_delete
        an_unchanged_object_is_not_read_again
        content_over_the_limit_is_not_read
        metadata_comes_back_and_belongs_to_its_generation
        a_delete_wants_the_generation_and_is_done_once
        an_upload_from_a_file_tells_its_progress_and_never_overwrites
        a_file_that_changed_since_it_was_read_is_never_published
        a_download_begins_at_any_byte
        a_download_stays_with_its_generation
        a_copy_has_the_content_and_metadata_of_its_own
        a_copy_never_overwrites_and_wants_the_generation
        a_large_object_goes_through_in_flat_memory
        two_processes_race_and_nothing_is_lost
        two_tasks_race_and_nothing_is_lost
    }
    listings {
        a_listing_gives_what_begins_with_the_prefix_in_byte_order
        a_listing_of_several_pages_gives_each_object_once
        directories_are_listed_in_pages_and_only_with_objects_in_them
        names_with_colons_and_other_signs_are_kept
    }
    documents {
        unknown_fields_of_documents_are_ignored
        documents_of_all_kinds_come_back
        a_document_is_written_once_more_as_it_is_with_other_metadata
        nobody_writes_what_nobody_would_read
        releases_of_the_original_system_are_found_and_adopted_once
        a_bucket_is_marked_once
    }
    pushes {
        a_documents_metadata_comes_back_with_it_up_to_the_limit
        an_entry_of_the_history_is_one_object_whoever_writes_it
        the_newest_entries_are_found_however_old
        pushes_come_back_newest_first_with_their_ends
        a_push_that_does_not_fit_is_refused
    }
    guards {
        rejections
        halts
        holds
        retired_documents
    }
    runs {
        a_run_is_recorded_from_beginning_to_end_and_listed_without_being_read
        a_run_with_more_than_fits_is_recorded_all_the_same
        a_file_of_a_stage_is_kept_once_and_found_with_its_run
        a_release_says_which_run_made_it
    }
    images {
        an_image_is_recorded_once_and_a_list_tells_all_of_it
        what_is_no_record_of_an_image_is_listed_as_unreadable_and_never_taken_for_one
    }
}
