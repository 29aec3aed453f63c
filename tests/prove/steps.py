"""The safety steps that are taken away, one at a time.

Each says what stands in the tree, once; what stands there without the step; and the test that has to fail then. Text that
stands there more than once is told by what comes `after` it.
"""

import dataclasses


@dataclasses.dataclass
class Step:
    name: str
    test: str
    file: str
    old: str
    new: str = "()"
    after: str = ""
    model: bool = False
    env: dict = dataclasses.field(default_factory=dict)


POWER = "store::tests::power_loss::power_loss_at_any_operation_keeps_what_was_synced"


def power(name, file, old, new="()", after=""):
    return Step(name, POWER, file, old, new, after, env={"DENYUT_IMAGES": "3000"})


def model(name, test, file, old, new="()", after=""):
    return Step(name, test, file, old, new, after, model=True)


STORE = "store::tests::"
RECOVERED = STORE + "recovered::"
LOG_FLIPS = "storage::tests::a_flipped_bit_before_the_last_frame_is_damage_and_in_it_a_tail"
NAMED = "fs::sim::tests::a_published_file_is_old_or_new_at_every_crash_point"
MOMENTS = "snapshot::moments::loom_bounded::"
CONTROL = "control::loom_bounded::"

DURABLE = [
    power("commit entry", "src/ingest/block_commit.rs",
          "self.mapping.write(SLOTS + slot * self.layout.slot_bytes, &entry.encode());"),
    power("sync of a commit entry", "src/ingest/block_commit.rs", "self.file.sync_data()?;",
          after="\n        (state.next.sequence, state.rows"),
    power("sync of the header before the first entry", "src/ingest/block_commit.rs", "self.file.sync_data()?;",
          after="\n            state.next.settle_first"),
    power("series before rows, at a sync", "src/maintain/core.rs",
          "self.series_log.sync().map_err(|error| self.poison(error))?;", after="\n        for (block"),
    power("series before rows, at a commit", "src/maintain/core.rs",
          "self.series_log.sync().map_err(|error| self.poison(error))?", "self.series_log.durable_end()",
          after=";\n        manifest.commit"),
    power("series in the log", "src/storage/series_table.rs", "log.append(schema.id, inner.count, values)?;"),
    power("sync of the manifest", "src/storage/manifest.rs", "self.log.sync().map_err(CommitError::Unknown)?;"),
    power("sync of a segment", "src/storage/segment_writer.rs", "self.file.sync_data()?;"),
    power("sync of names at an open", "src/store/open.rs", "self.fs.sync_dir(&dir)?;"),
    Step("a durable name before older manifests go",
         "storage::tests::an_older_manifest_stays_until_a_newer_one_has_a_durable_name", "src/storage/manifest.rs",
         "manifest.succeed()?;"),
    Step("record of a close taken back for good",
         STORE + "everything::images::a_crash_at_any_operation_keeps_what_was_promised", "src/store/open.rs",
         "core.control.sync().map_err(|error| core.poison(error))?;"),
    Step("ids beyond files that wait to be removed",
         STORE + "following::a_segment_never_has_the_name_of_a_file_that_waits_to_be_removed", "src/store/open.rs",
         "catalog.next_segment.max(beyond_orphans)", "catalog.next_segment"),
    Step("no commit after a close", STORE + "scenarios::nothing_is_sealed_or_committed_after_a_close",
         "src/maintain/core.rs", "self.check_not_ended()?;"),
    Step("no seal after a close", STORE + "scenarios::nothing_is_sealed_or_committed_after_a_close",
         "src/maintain/seal.rs", "self.check_not_ended()?;"),
    Step("sync of a log at an open", STORE + "scenarios::a_frame_that_outlived_its_process_is_synced_before_it_counts",
         "src/storage/frame_log.rs", "log.file.sync_data()?;"),
    Step("sync of a file before its rename", NAMED, "src/fs/mod.rs", "file.sync_data()?;", after="\n    fs.rename("),
    Step("sync of a directory after a rename", NAMED, "src/fs/mod.rs",
         "fs.sync_dir(path.parent().unwrap_or(path))", "Ok(())"),
    Step("another name before the rename", NAMED, "src/fs/mod.rs", 'path.with_extension("tmp")', "path.to_path_buf()"),
]

CHECKED = [
    Step("checksum of a block's header", "ingest::tests::every_flipped_bit_of_a_header_is_noticed", "src/ingest/header.rs",
         "stored != crc32fast::hash(sector.split_at(CHECKSUM).0)", "false"),
    Step("checksum of a commit entry's sector", "ingest::tests::every_flipped_bit_of_a_commit_entry_is_noticed",
         "src/ingest/commit.rs", "stored != crc32fast::hash(body).to_le_bytes()", "false"),
    Step("sectors of one sync", "ingest::tests::sectors_of_two_syncs_are_torn_and_not_damaged", "src/ingest/commit.rs",
         "[entry.generation, entry.sequence, entry.rows, entry.heap_bytes] != head", "false"),
    power("checksums of rows", "src/ingest/recover.rs", "found != stored", "false"),
    Step("checksum of a frame", LOG_FLIPS, "src/storage/frame_log.rs",
         "stored == checksum(len, sequence, payload)", "true"),
    Step("no whole frame behind a broken one", LOG_FLIPS, "src/storage/frame_log.rs",
         "kind.synced_one_by_one && later_frame(rest, sequence)", "false"),
    Step("durable end of a log", "storage::tests::a_log_torn_at_any_byte_is_the_frames_before",
         "src/storage/frame_log.rs", "end < durable_end", "false"),
    Step("checksum of a series index", "storage::tests::every_flipped_bit_of_a_series_index_is_noticed",
         "src/storage/series_index.rs", "*stored != checksum(head, body).to_le_bytes()", "false"),
    Step("checksum of a segment's piece", STORE + "verify::damage_says_which_rows_and_times",
         "src/storage/segment/bytes_of_file.rs", "crc32fast::hash(found) != *sum", "false"),
    Step("checksum of a control page's state",
         "storage::tests::a_writer_that_stops_in_the_middle_of_a_state_leaves_the_one_before",
         "src/storage/control/page.rs", "word(STATE_WORDS) == checksum(&words)", "true"),
]

BELIEVED = [
    power("boot of a count", "src/ingest/recover.rs", "header.boot_id == known.boot_id", "true"),
    Step("identity of a counted file", RECOVERED + "rows_of_a_copied_block_count_when_they_were_synced",
         "src/ingest/recover.rs", "header.identity == file.identity()?", "true"),
    Step("write-back of a counted file", RECOVERED + "rows_whose_write_back_failed_do_not_count",
         "src/ingest/recover.rs", "file.check_write_back().is_ok()", "true"),
    Step("generation of a commit entry", RECOVERED + "a_commit_entry_of_another_life_does_not_count",
         "src/ingest/recover.rs", "entry.generation == self.header.generation", "true", after=" => entries.push(entry)"),
    Step("gate shut after a failed sync", STORE + "scenarios::a_failed_sync_poisons_the_store_and_the_next_open_says_so",
         "src/maintain/core.rs", "self.gate.hold().shut(shut.clone(), &view);"),
    Step("poison mark in a block", RECOVERED + "a_poisoned_block_counts_up_to_its_last_good_sync",
         "src/maintain/core.rs", "poison(&view.block.mapping, view.block.generation, view.block.committed());"),
    Step("poison mark in the directory", STORE + "care::poisoning_twice_keeps_the_first_reason",
         "src/maintain/core.rs", "self.mark_poisoned(&reason)", "Ok::<(), Error>(())"),
    Step("logs written again after a failed sync", RECOVERED + "logs_are_written_again_after_a_failed_sync",
         "src/storage/frame_log.rs", "log.file.write_at(whole.unwrap_or_default(), 0)?;"),
    Step("absent bytes of a refused row", RECOVERED + "a_refused_row_leaves_no_null_behind", "src/ingest/live_block.rs",
         "unsafe { column.absent.add(self.row).write(0) }"),
    Step("absent bytes beyond what is kept", RECOVERED + "a_row_that_was_being_written_leaves_no_null_behind",
         "src/ingest/recover.rs", "mapping.zero(absent + kept, layout.capacity - kept);"),
    Step("marks cut with their rows", STORE + "ingest_time::marks_beyond_a_cut_do_not_speak_of_rows_that_come_later",
         "src/ingest/recover.rs", "marks::cut(&mapping, &layout, kept);"),
]

RECYCLED = [
    Step("absent bytes of a recycled block", STORE + "recycled::a_recycled_block_has_no_nulls_of_its_former_life",
         "src/ingest/pool.rs", "mapping.zero(absent, capacity)"),
    Step("count of a recycled block", STORE + "recycled::a_recycled_block_begins_without_rows", "src/ingest/pool.rs",
         "mapping.word(PUBLISHED).store(0, Ordering::Relaxed);"),
    Step("generation of a recycled block", STORE + "recycled::a_recycled_block_is_another_life", "src/ingest/pool.rs",
         "self.generation.fetch_add(1, Ordering::Relaxed) + 1", "self.generation.load(Ordering::Relaxed)"),
    Step("exclusive lock before recycling", STORE + "recycled::a_block_that_a_reader_holds_is_replaced",
         "src/ingest/pool.rs", "!file.try_lock(LockKind::Exclusive)?", "false"),
    Step("pin before files are removed", STORE + "following::released_segments_stay_until_the_last_reader_has_gone",
         "src/maintain/pins.rs", "released.pin < oldest", "true"),
    Step("readers here before files are removed", STORE + "tended::what_is_read_stays_while_it_is_merged_away",
         "src/maintain/pins.rs", "released.segment.strong_count() == 0", "true"),
]

SHARED = [
    model("count published with release", MOMENTS + "published_rows_are_whole", "src/ingest/turn.rs",
         "count.store(rows, Ordering::Release);", "count.store(rows, Ordering::Relaxed);"),
    model("count loaded with acquire", MOMENTS + "published_rows_are_whole", "src/sync.rs",
         "F::fence(Ordering::Acquire);"),
    model("second look", MOMENTS + "two_looks_that_agree_are_one_moment", "src/snapshot/cut/moment.rs",
         "(first == look()).then_some(first)", "Some(first)"),
    model("barrier on all threads", MOMENTS + "a_cut_that_has_a_row_has_the_row_before_it_of_the_same_thread",
         "src/snapshot/cut/moment.rs", "F::everywhere();"),
    model("barrier of an append", MOMENTS + "a_cut_that_has_a_row_has_the_row_before_it_of_the_same_thread",
         "src/ingest/turn.rs", "F::here();"),
    model("writers called aside", MOMENTS + "a_cut_that_has_a_row_has_the_row_that_it_depends_on",
         "src/snapshot/cut/moment.rs", "C::blocks(&view).for_each(Counted::call_aside);"),
    model("view the same after the looks", MOMENTS + "a_snapshot_has_each_row_whose_append_returned_before_it",
         "src/snapshot/cut/moment.rs", "C::same(&view, &cell.load())", "true"),
    model("epoch stored with release", CONTROL + "states_are_whole_and_none_follows_a_later_one",
         "src/storage/control/page.rs",
         "self.0.word(EPOCH).store(epoch, Ordering::Release);", "self.0.word(EPOCH).store(epoch, Ordering::Relaxed);"),
    model("fence before a state is written", CONTROL + "states_are_whole_and_none_follows_a_later_one",
         "src/storage/control/page.rs", "M::Fences::fence(Ordering::Release);"),
    model("fence after a state is read", CONTROL + "states_are_whole_and_none_follows_a_later_one",
         "src/storage/control/page.rs", "M::Fences::fence(Ordering::Acquire);", after="\n        let unchanged"),
    model("epoch looked at again", CONTROL + "states_are_whole_and_none_follows_a_later_one",
         "src/storage/control/page.rs", "of == epoch && self.0.word(EPOCH).load(Ordering::Relaxed) == epoch", "true"),
    model("cut stored with release", CONTROL + "cuts_are_whole", "src/storage/control/page.rs",
         "self.0.word(CUTS_DONE).store(number, Ordering::Release);",
         "self.0.word(CUTS_DONE).store(number, Ordering::Relaxed);"),
    model("cut looked at again", CONTROL + "cuts_are_whole", "src/storage/control/page.rs",
         "of == number && word(CUTS_BEGUN) < number + 2", "true"),
    model("fence of a cut", CONTROL + "a_cut_begun_later_has_what_was_known", "src/storage/control/page.rs",
         "M::Fences::fence(Ordering::SeqCst);", after="\n        number"),
    model("fence of who waits for a cut", CONTROL + "a_cut_begun_later_has_what_was_known", "src/storage/control/page.rs",
         "M::Fences::fence(Ordering::SeqCst);", after="\n        self.0.load_acquire(CUTS_BEGUN)"),
]

STEPS = DURABLE + CHECKED + BELIEVED + RECYCLED + SHARED
