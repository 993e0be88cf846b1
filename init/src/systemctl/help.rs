//! What `--help` prints.

/// Of `systemctl`.
pub const HELP: &str = "\
systemctl [OPTIONS...] COMMAND [UNIT...]

Units:
  list-units [PATTERN...]         units that are loaded
  list-timers [PATTERN...]        timers, the next first
  list-sockets [PATTERN...]       what sockets listen at
  list-paths [PATTERN...]         what path units watch
  list-automounts                 none: there are no automounts here
  list-dependencies [UNIT...]     what units need, as a tree
  list-jobs [PATTERN...]          cancel [JOB...]
  status [UNIT|PID...]            state, processes, last log lines
  show [UNIT...] [-p NAME]        properties, without a unit those of the manager
  cat UNIT...                     unit file and drop-ins
  help UNIT...                    documentation
  is-active | is-failed UNIT...
  start | stop | restart | try-restart | reload | reload-or-restart UNIT...
  kill UNIT... [-s SIGNAL] [--kill-whom=main|control|all]
  freeze | thaw UNIT...           stop processes where they are, let them go on
  isolate UNIT                    stop everything that UNIT does not need
  set-property UNIT KEY=VALUE...  limits, at once and for good, or --runtime
  reset-failed [UNIT...]
  whoami [PID...]                 the unit of a process

Unit files:
  list-unit-files [PATTERN...]
  enable | disable | reenable UNIT|PATH...
  preset UNIT... | preset-all     as the system's makers advise (--preset-mode=)
  mask | unmask UNIT...           link PATH...
  add-wants | add-requires TARGET UNIT...
  revert UNIT...                  back to what the system was made with
  is-enabled UNIT...
  edit UNIT... [--full] [--force] [--drop-in=NAME] [--stdin]
  get-default | set-default TARGET

Machine:
  is-system-running [--wait]      daemon-reload | daemon-reexec
  show-environment                set-environment NAME=VALUE...
  unset-environment NAME...       import-environment NAME...
  poweroff | reboot | halt [--force]      rescue | emergency | default

Options: --no-block --wait --now -q/--quiet -a/--all --failed -t/--type=TYPE --state=STATE -o/--output=json|json-pretty
  --no-legend --no-pager --plain -n/--lines=N -p/--property=NAME -P NAME --value -s/--signal=SIGNAL --reverse --before
  --after --show-types --runtime -f/--force --root=DIR --no-reload --job-mode=MODE --dry-run
  `help` as the value of --type, --state or --signal lists what there is.
";

/// Of `poweroff`, `reboot`, `halt`.
pub const POWER_HELP: &str = "\
poweroff | reboot | halt [OPTIONS...]

  -p/--poweroff  --reboot  --halt     one of the others
  -f/--force                          at once, without stopping services
  -w/--wtmp-only                      nothing: there is no record of logins to write
";

/// Of `shutdown`.
pub const SHUTDOWN_HELP: &str = "\
shutdown [OPTIONS...] [now]

  -h/-P/--poweroff  -r/--reboot  -H/--halt
  -k                                  only say that it would
  -c                                  nothing: shutdowns begin at once and cannot be called back
";
