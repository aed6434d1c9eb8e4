//! The guest contract, clause by clause, and the facts that show each: what `cargo xtask compliance` prints.

use std::collections::BTreeMap;

crate::facts![a_clause_holds_only_if_all_its_facts_do];

/// A clause of the contract (`docs/guest.md`), and the facts that show it.
pub struct Clause {
    pub section: &'static str,
    pub text: &'static str,
    pub facts: &'static [&'static str],
}

const fn clause(section: &'static str, text: &'static str, facts: &'static [&'static str]) -> Clause {
    Clause { section, text, facts }
}

/// How a fact came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    Yes,
    No,
    /// It cannot be shown on this machine.
    Skipped,
}

impl Shown {
    fn word(self) -> &'static str {
        match self {
            Self::Yes => "holds",
            Self::No => "BROKEN",
            Self::Skipped => "skipped",
        }
    }
}

impl Clause {
    fn outcome(&self, results: &BTreeMap<String, Shown>) -> Shown {
        let of = |fact: &&str| results.get(*fact).copied().unwrap_or(Shown::Skipped);
        let outcomes: Vec<Shown> = self.facts.iter().map(of).collect();
        if outcomes.contains(&Shown::No) {
            Shown::No
        } else if outcomes.contains(&Shown::Skipped) {
            Shown::Skipped
        } else {
            Shown::Yes
        }
    }
}

/// The table, a line for each clause, and whether all hold.
pub fn render(results: &BTreeMap<String, Shown>) -> (String, bool) {
    let mut table = format!("| {:<9} | {:<86} | facts | shown |\n", "section", "clause");
    table.push_str("|---|---|---|---|\n");
    let mut all_hold = true;
    for clause in CLAUSES {
        let outcome = clause.outcome(results);
        all_hold &= outcome != Shown::No;
        let (section, text, facts) = (clause.section, clause.text, clause.facts.len());
        table.push_str(&format!(
            "| {section:<9} | {text:<86} | {facts:>5} | {} |\n",
            outcome.word()
        ));
    }
    let count = |wanted| {
        CLAUSES
            .iter()
            .filter(|clause| clause.outcome(results) == wanted)
            .count()
    };
    table.push_str(&format!(
        "{} of {} clauses hold, {} broken, {} skipped on this machine\n",
        count(Shown::Yes),
        CLAUSES.len(),
        count(Shown::No),
        count(Shown::Skipped)
    ));
    (table, all_hold)
}

/// Facts that a clause names and that there are not: a table with one would show nothing.
pub fn missing<'a>(facts: impl Iterator<Item = &'a str> + Clone) -> Vec<&'static str> {
    let named = CLAUSES.iter().flat_map(|clause| clause.facts).copied();
    named
        .filter(|name| !facts.clone().any(|fact| fact == *name))
        .collect()
}

fn a_clause_holds_only_if_all_its_facts_do() {
    let all = |shown| -> BTreeMap<String, Shown> {
        let facts = CLAUSES.iter().flat_map(|clause| clause.facts);
        facts.map(|fact| ((*fact).to_owned(), shown)).collect()
    };
    let (table, holds) = render(&all(Shown::Yes));
    assert!(
        holds && !table.contains("BROKEN") && !table.contains("| skipped"),
        "{table}"
    );
    let mut one_broken = all(Shown::Yes);
    one_broken.insert("guest::out_of_memory_is_named".to_owned(), Shown::No);
    let (table, holds) = render(&one_broken);
    assert!(!holds && table.matches("BROKEN").count() == 1, "{table}");
    let (table, holds) = render(&BTreeMap::new());
    assert!(holds && table.contains("\n0 of "), "{table}");
}

const CLAUSES: &[Clause] = &[
    clause(
        "boot",
        "a signed release boots and its program's exit code and output come back",
        &[
            "boot::exit_code_and_both_streams_come_back",
            "boot::much_output_arrives_whole",
        ],
    ),
    clause(
        "boot",
        "stages run in order; each is timed in the boot report",
        &["boot::every_stage_is_timed"],
    ),
    clause(
        "boot",
        "a failure in any stage has its own reason, over vsock and on the console",
        &[
            "stages::kernel_filesystems_without_an_instance_id",
            "stages::handshake_with_a_config_that_is_none",
            "stages::root_disk_that_is_none",
            "stages::scratch_disk_that_cannot_be_written",
            "stages::overlay_of_a_layer_that_a_crash_left",
            "stages::switch_root_without_a_free_inode",
            "stages::network_without_an_interface",
            "stages::secrets_that_are_required_and_absent",
            "stages::secrets_that_cannot_be_written",
            "stages::volume_without_a_device",
            "stages::workload_that_is_not_there",
        ],
    ),
    clause(
        "boot",
        "a stage that hangs is ended at its deadline, and says so on both ways",
        &["stages::root_disk_that_hangs", "stages::scratch_disk_that_hangs"],
    ),
    clause(
        "boot",
        "ext4, erofs and squashfs root disks",
        &["images::ext4_and_squashfs_images_boot_as_erofs_does"],
    ),
    clause(
        "boot",
        "mount points that the image lacks are made in the overlay; no link is followed",
        &[
            "images::an_image_without_any_directory_boots",
            "images::links_in_the_way_of_kernel_file_systems_are_not_followed",
        ],
    ),
    clause(
        "boot",
        "the customer's root disk is bit-identical after a workload wrote everywhere",
        &["images::the_root_disk_is_bit_identical_after_a_workload_wrote_everywhere"],
    ),
    clause(
        "boot",
        "several VMs at once",
        &["boot::four_instances_boot_at_once"],
    ),
    clause(
        "boot",
        "guest init is static, small, PID 1 or nothing, under 2 MiB of memory",
        &[
            "boot::guest_init_is_static_and_small",
            "boot::guest_init_refuses_to_be_anything_but_pid_1",
            "guest::guest_init_stays_under_two_mebibytes",
        ],
    ),
    clause(
        "handshake",
        "all of it within 5 s; a host that never answers, or is not there, ends the boot",
        &[
            "handshake::a_host_that_never_answers_is_given_up_after_five_seconds",
            "handshake::a_host_that_nobody_listens_on_ends_the_boot",
        ],
    ),
    clause(
        "handshake",
        "garbage, 1 MiB + 1, an end in the middle: a typed error",
        &[
            "handshake::garbage_is_refused_and_said_so_on_both_ways",
            "handshake::a_line_that_is_too_long_is_refused",
            "handshake::a_host_that_closes_in_the_middle_ends_the_boot",
        ],
    ),
    clause(
        "handshake",
        "unknown optional members are ignored, an unknown required feature is refused",
        &[
            "handshake::unknown_optional_members_are_ignored",
            "handshake::an_unknown_required_feature_is_refused_by_name",
        ],
    ),
    clause(
        "handshake",
        "a config for another instance is refused",
        &["handshake::a_config_of_another_instance_is_refused"],
    ),
    clause(
        "handshake",
        "reject: the guest prints it and stops; protocol 2 is refused by the agent",
        &[
            "handshake::a_rejection_is_printed",
            "stand_in::a_guest_of_another_protocol_is_refused",
        ],
    ),
    clause(
        "network",
        "static IPv6, MTU, route, no router advertisements; checked before ready",
        &[
            "network::a_gateway_outside_the_prefix_is_on_the_link",
            "network::addresses_route_and_names_are_as_configured",
            "network::a_page_is_fetched_from_a_web_server_in_the_guest",
        ],
    ),
    clause(
        "network",
        "resolvers into the overlay, also over a dangling link; none otherwise",
        &[
            "network::resolvers_are_written_where_there_are_any",
            "guest::a_dangling_resolver_link_does_not_stop_a_boot",
        ],
    ),
    clause(
        "network",
        "lo is up and the host has a name without a network too",
        &["guest::without_a_network_the_host_name_is_the_instances_id"],
    ),
    clause(
        "secrets",
        "mode 0400, owner, content, on tmpfs; 0440 and another owner only where configured",
        &[
            "boot::secrets_are_in_their_file_and_nowhere_else",
            "boot::a_secrets_file_has_the_owner_and_mode_that_were_asked_for",
        ],
    ),
    clause(
        "secrets",
        "required and absent, or malformed: its own reason",
        &[
            "stages::secrets_that_are_required_and_absent",
            "stages::secrets_that_cannot_be_written",
        ],
    ),
    clause(
        "secrets",
        "no secret and no environment value in console, logs, API, errors, diagnosis",
        &[
            "secrecy::nothing_leaks_when_all_goes_well",
            "secrecy::nothing_leaks_in_a_boot_that_fails",
            "secrecy::nothing_leaks_when_a_request_is_refused",
            "secrecy::nothing_leaks_when_the_end_is_violent",
        ],
    ),
    clause(
        "volumes",
        "usable, kept, noatime, parents before children, clean by fsck after the stop",
        &[
            "storage::a_volume_keeps_its_data_and_is_clean_after_the_stop",
            "storage::a_volume_within_a_volume_is_mounted_after_it",
        ],
    ),
    clause(
        "volumes",
        "read-only refuses writes, by the VMM too",
        &["storage::a_read_only_volume_refuses_writes"],
    ),
    clause(
        "volumes",
        "reserved mount points are refused by the guest itself; a link is not followed",
        &[
            "storage::the_guest_itself_refuses_a_reserved_mount_point",
            "storage::a_volume_is_not_mounted_over_a_link",
        ],
    ),
    clause(
        "volumes",
        "a volume that cannot be mounted is named",
        &[
            "failures::a_volume_that_is_none_is_named",
            "stages::volume_without_a_device",
        ],
    ),
    clause(
        "volumes",
        "the scratch disk is cleanly unmounted; full, it is the program's error",
        &[
            "storage::the_scratch_disk_is_unmounted_cleanly",
            "storage::a_scratch_disk_of_ones_own_keeps_its_state",
            "workload::a_full_scratch_disk_is_an_error_of_the_program",
            "failures::a_scratch_disk_that_is_full_is_named",
        ],
    ),
    clause(
        "workload",
        "environment, directory, user and groups by name or number",
        &[
            "boot::environment_user_and_directory_are_as_asked_for",
            "failures::an_unknown_user_is_named",
            "workload::limits_and_groups_are_as_asked_for",
        ],
    ),
    clause(
        "workload",
        "rlimits; a fork bomb stays under pids.max and leaves room to look",
        &[
            "workload::limits_and_groups_are_as_asked_for",
            "workload::a_fork_bomb_stays_within_its_limit",
            "workload::a_fork_bomb_without_a_limit_leaves_room_to_look",
        ],
    ),
    clause(
        "workload",
        "argv[0] without a slash is found in the configured PATH",
        &["boot::a_program_without_a_slash_is_found_in_the_configured_path"],
    ),
    clause(
        "workload",
        "static, dynamic and script programs; a missing loader or interpreter is named",
        &[
            "workload::a_dynamic_program_runs",
            "workload::a_script_runs",
            "failures::a_program_whose_loader_is_missing_says_so",
            "failures::a_program_that_does_not_exist_is_named",
        ],
    ),
    clause(
        "workload",
        "own session, cgroup, standard signal dispositions, three descriptors",
        &[
            "guest::a_program_has_a_session_and_a_cgroup_of_its_own",
            "guest::a_program_inherits_three_descriptors_and_no_more",
        ],
    ),
    clause(
        "workload",
        "a program that closes its output runs on",
        &["guest::a_program_that_closes_its_output_runs_on"],
    ),
    clause(
        "workload",
        "SIGTERM, SIGINT and SIGHUP to PID 1 are forwarded",
        &["guest::signals_to_pid_1_reach_the_program"],
    ),
    clause(
        "workload",
        "1,000 zombies are reaped",
        &["guest::a_thousand_zombies_are_reaped"],
    ),
    clause(
        "end",
        "all 256 exit codes, of sessions and of whole instances; signals",
        &[
            "workload::all_256_exit_codes_come_back_from_exec",
            "workload::exit_codes_of_whole_instances_come_back",
            "boot::a_killed_program_reports_its_signal",
        ],
    ),
    clause(
        "end",
        "one that exits at once in failure: workload_crashed",
        &[
            "workload::a_program_that_exits_at_once_in_failure_crashed",
            "stages::workload_that_exits_at_once_in_failure",
        ],
    ),
    clause("end", "OOM is named as OOM", &["guest::out_of_memory_is_named"]),
    clause(
        "end",
        "stop: stop signal, grace, then the whole tree is killed",
        &[
            "patience::a_workload_that_leaves_its_cgroup_is_stopped_all_the_same",
            "lifecycle::a_program_that_handles_its_stop_signal_ends_as_it_likes",
            "lifecycle::a_program_that_ignores_it_is_killed_after_the_grace",
            "lifecycle::a_second_stop_can_hurry_the_first",
        ],
    ),
    clause(
        "end",
        "an exit is told though nobody reads the output, a disk hangs or the console is flooded",
        &[
            "patience::an_exit_is_told_though_nobody_reads_the_output",
            "patience::an_exit_is_told_though_a_process_hangs_on_a_disk",
            "patience::a_flooded_console_does_not_hold_the_end",
        ],
    ),
    clause(
        "end",
        "an exit is durable at the agent; without an agent it is on the console",
        &[
            "lifecycle::an_end_that_cannot_be_written_is_no_end_yet",
            "lifecycle::an_agent_that_is_stopped_stops_its_instances",
            "handshake::a_workload_outlives_its_host_and_its_exit_is_on_the_console",
        ],
    ),
    clause(
        "exec",
        "pipes and terminal, standard input, exit status, user and environment",
        &[
            "exec::exec_gives_exit_code_and_both_streams",
            "exec::exec_passes_standard_input_on",
            "exec::exec_with_a_terminal_has_one",
        ],
    ),
    clause(
        "exec",
        "frames: lengths, types, at most 64 KiB; what is none is refused",
        &[
            "exec_frames::frames_are_as_the_contract_has_them",
            "exec_frames::what_is_no_request_is_refused_and_the_service_goes_on",
        ],
    ),
    clause(
        "exec",
        "resize and signals",
        &[
            "exec_frames::a_terminal_is_resized",
            "exec_frames::signals_reach_the_session",
        ],
    ),
    clause(
        "exec",
        "disconnect: HUP at once, TERM after 5 s, KILL after 30 s",
        &["exec_frames::a_disconnected_session_gets_hup_then_term_then_kill"],
    ),
    clause(
        "exec",
        "two sessions at most; what a session leaves behind is ended",
        &[
            "exec::a_third_session_is_refused",
            "exec::exec_ends_what_it_left_in_the_background",
        ],
    ),
    clause(
        "exec",
        "the agent alone can dial: nobody in the guest, root or not, gets a session",
        &["patience::nobody_in_the_guest_can_dial_the_exec_service"],
    ),
    clause(
        "exec",
        "no session stays: not one that nobody reads, nor one with input waiting; no cgroup is left",
        &[
            "patience::a_session_that_nobody_reads_ends",
            "patience::a_disconnect_shows_although_input_is_waiting",
            "patience::sessions_leave_no_cgroup_behind",
            "patience::a_workload_that_takes_the_cgroups_of_sessions_cannot_stop_them",
        ],
    ),
    clause(
        "exec",
        "off means that nobody listens",
        &["exec_frames::a_disabled_service_does_not_listen"],
    ),
    clause(
        "boot log",
        "JSON lines from before the root switch on, fetched over vsock",
        &[
            "exec::the_boot_log_can_be_fetched",
            "exec_frames::frames_are_as_the_contract_has_them",
        ],
    ),
];
