/**
 * The error registry: every code that a user can meet, what it means and what to do about it. docs/ERRORS.md is made
 * from this table (scripts/errors-page), and a test holds them together.
 */

interface ErrorEntry {
  /** What to do about it, for the operator. */
  readonly hint: string;
  /** Whether trying again, without anybody doing anything, can help. */
  readonly retryable: boolean;
  /** Exit status of the command that ends with it (docs/ERRORS.md, "Exit status"). */
  readonly exit: number;
}

/** Exit statuses of `afterimage`. */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  config: 3,
  refused: 4,
  notFound: 5,
  unavailable: 6,
  busy: 7,
  full: 8,
  damaged: 9,
  repaired: 10,
  repairable: 11,
  unchecked: 12,
  differs: 13,
  interrupted: 130,
} as const;

function entry(exit: number, retryable: boolean, hint: string): ErrorEntry {
  return { hint, retryable, exit };
}

export const ERRORS = {
  // --- programs and messages ---
  INTERNAL: entry(EXIT.failure, false, 'This is a defect. Please report it with the log.'),
  USAGE: entry(EXIT.usage, false, 'See --help.'),
  INTERRUPTED: entry(EXIT.interrupted, true, 'Run the command again.'),
  MESSAGE_INVALID: entry(
    EXIT.failure,
    false,
    'Bring both sides to the same version, and see that the address is that of an Afterimage daemon.',
  ),
  MESSAGE_TOO_LARGE: entry(EXIT.failure, false, 'Ask for less: name one group instead of all.'),
  PROTOCOL_VERSION: entry(EXIT.refused, false, 'Bring agent, receiver and command to the same version.'),
  CONFIG_INVALID: entry(EXIT.config, false, 'Correct the named line of the configuration.'),
  CONFIG_MISSING: entry(EXIT.config, false, 'Create the configuration file, or name it with --config.'),
  DAEMON_UNREACHABLE: entry(
    EXIT.unavailable,
    true,
    'Start the daemon (the agent on the protected host, the receiver at the recovery site), or name its control socket with --control.',
  ),
  DAEMON_MISMATCH: entry(
    EXIT.usage,
    false,
    "Name the other daemon's control socket with --control, or run the command where that daemon runs.",
  ),
  DAEMON_TIMEOUT: entry(
    EXIT.unavailable,
    true,
    'The daemon is busy or stuck: look at its log, then try again.',
  ),
  ADDRESS_NOT_LOOPBACK: entry(EXIT.config, false, 'Use a loopback address: without TLS no other is allowed.'),
  // --- identity ---
  TOKEN_INVALID: entry(
    EXIT.usage,
    false,
    'Copy the whole token, as `afterimage receiver token create` printed it.',
  ),
  TOKEN_REFUSED: entry(
    EXIT.refused,
    false,
    'Have another one made at the receiver: `afterimage receiver token create --host NAME`. Each is good for once, and for a while.',
  ),
  RENEWAL_LIMIT: entry(
    EXIT.busy,
    true,
    'The certificate is new. It renews by itself when a third of its time is left.',
  ),
  TOKEN_LIMIT: entry(EXIT.busy, true, 'Too many tokens were tried. Wait a minute, and try again.'),
  TOKEN_UNKNOWN: entry(
    EXIT.notFound,
    false,
    'Name one of those that `afterimage receiver token list` shows.',
  ),
  AUTHORITY_MISMATCH: entry(
    EXIT.refused,
    false,
    'Who answers at that address is not the receiver that made the token: correct the address. If it is right, somebody is in between, or the receiver has another authority since: compare `afterimage receiver authority` there, and have another token made.',
  ),
  AUTHORITY_MISSING: entry(
    EXIT.failure,
    false,
    'Put the file back from a copy of the store. If there is none: `afterimage receiver init --new-authority`, after which every host and operator has to join again (docs/OPERATIONS.md).',
  ),
  AUTHORITY_INVALID: entry(
    EXIT.failure,
    false,
    'Put the file back from a copy of the store. If there is none: `afterimage receiver init --new-authority`, after which every host and operator has to join again (docs/OPERATIONS.md).',
  ),
  IDENTITY_MISSING: entry(
    EXIT.refused,
    false,
    'Join a receiver first: `afterimage agent join ADDRESS TOKEN` on a protected host, `afterimage login ADDRESS TOKEN` as an operator.',
  ),
  IDENTITY_INVALID: entry(
    EXIT.failure,
    false,
    'Join again with another token: `afterimage agent join ADDRESS TOKEN`, or `afterimage login ADDRESS TOKEN`.',
  ),
  IDENTITY_REFUSED: entry(
    EXIT.refused,
    false,
    'If it should be let in: have a token made at the receiver (`afterimage receiver token create`), and join again with it.',
  ),
  IDENTITY_UNKNOWN: entry(
    EXIT.notFound,
    false,
    'Name one of those that `afterimage receiver host list` or `operator list` shows.',
  ),
  GROUP_FORBIDDEN: entry(
    EXIT.refused,
    false,
    'If this host is to have it: `afterimage receiver host grant HOST GROUP` at the receiver.',
  ),
  AUDIT_MISSING: entry(
    EXIT.notFound,
    false,
    'Run the command where the daemon has its audit log, or name the file.',
  ),
  AUDIT_BROKEN: entry(
    EXIT.damaged,
    false,
    'Somebody, or a disk, has changed the audit log: compare it with a copy, and see who can write to the directory that it lies in.',
  ),
  TARGET_FORBIDDEN: entry(
    EXIT.refused,
    false,
    'Name a path below recovery_dir of receiver.toml, or run the command on the machine of the receiver.',
  ),
  ROLE_INSUFFICIENT: entry(
    EXIT.refused,
    false,
    'Ask somebody whose role is enough, or have a token of that role made: `afterimage receiver token create --operator NAME --role ROLE`.',
  ),
  PERMISSION_DENIED: entry(
    EXIT.refused,
    false,
    'Run it as the user that owns what is named, the one that the daemon runs as, or as root; remount a file system that is read-only.',
  ),
  PATH_UNSAFE: entry(
    EXIT.refused,
    false,
    'See who has put it there. If it is right: chown it to the user that the daemon runs as; chmod go-w a directory, go-rwx a file with a key.',
  ),
  IO_ERROR: entry(
    EXIT.failure,
    false,
    'Look at the kernel log: the disk or file system under the named path failed, or is full.',
  ),
  DISK_FULL: entry(EXIT.full, false, 'Free space in the file system of the named path, or choose another.'),
  WATERMARK_INVALID: entry(
    EXIT.failure,
    false,
    'The peer named a position that cannot be. A new generation and a comparison follow by themselves.',
  ),

  // --- protected host ---
  BACKING_MISSING: entry(
    EXIT.notFound,
    false,
    'Correct `backing` or `mapped`, or bring the device up before the agent.',
  ),
  BACKING_BUSY: entry(
    EXIT.busy,
    false,
    'Unmount it, or stop what holds it: nobody may write behind the agent.',
  ),
  BACKING_INVALID: entry(
    EXIT.config,
    false,
    'Name a block device or a regular file that is not empty, in blocks of 512 or 4096 bytes, at most 512 TiB.',
  ),
  BACKING_RESIZED: entry(
    EXIT.refused,
    false,
    'Give it back the size that it had, or more: a volume can grow, and not shrink. Or protect it as a new volume under another name.',
  ),
  BACKING_REPLACED: entry(
    EXIT.refused,
    true,
    'The path of the backing leads to another file or device than before, and the I/O of the volume waits. Give the path back to the right one, and it goes on at once. To give the volume up, send the agent SIGTERM twice: who uses it gets I/O errors.',
  ),
  BACKING_FAILED: entry(
    EXIT.failure,
    false,
    'The backing device reports errors: look at the kernel log, and replace it. After a flush that failed all later ones fail until the agent is started again. A stream that ended goes on by itself, with a resync.',
  ),
  BACKING_ON_ITSELF: entry(
    EXIT.config,
    false,
    'Keep what the message names (state or spool directory; for an insertion also run directory, programs, configuration and swap) on a disk that this agent does not protect.',
  ),
  VOLUME_NOT_INSERTED: entry(
    EXIT.refused,
    false,
    'Its I/O goes past the agent: `afterimage volume insert GROUP` puts protection under it, also anew after a boot.',
  ),
  VOLUME_INSERTED: entry(
    EXIT.refused,
    false,
    'Nothing is to be done: `afterimage status` shows how it is doing.',
  ),
  VOLUME_NOT_MAPPED: entry(
    EXIT.config,
    false,
    'Only volumes that the configuration names by `mapped` are inserted and removed; others are attached as long as the agent runs.',
  ),
  VOLUME_BUSY: entry(
    EXIT.busy,
    true,
    'Somebody has its backing open, as a rule another agent, or one that does not answer: stop that, or name its configuration. Then run the same verb again.',
  ),
  MAPPER_TABLE: entry(
    EXIT.refused,
    false,
    'Only device-mapper devices of linear and striped targets can be protected while they are in use; for others attach the disks below by `backing`.',
  ),
  MAPPER_UNAVAILABLE: entry(
    EXIT.unavailable,
    false,
    'Install the package dmsetup; the kernel needs the modules dm-mod, dm-multipath and dm-round-robin.',
  ),
  MAPPER_FAILED: entry(
    EXIT.failure,
    true,
    'See the message and the kernel log. I/O of the volume may wait: run the same verb again, or `afterimage volume remove`.',
  ),
  STATE_BUSY: entry(EXIT.busy, false, 'Stop the other agent that runs with this state directory.'),
  STATE_INVALID: entry(
    EXIT.config,
    false,
    'Keep a copy, then remove it and name the group anew: the state belongs to another version or is damaged, and without it the agent is a stranger to the receiver.',
  ),
  VOLUME_LIMIT: entry(
    EXIT.config,
    false,
    'Put the others into another group: one group takes at most 64 volumes of a host.',
  ),
  RING_UNAVAILABLE: entry(EXIT.failure, false, 'Lower ring_bytes, or give the agent more memory.'),
  RING_LAYOUT: entry(
    EXIT.failure,
    false,
    'Nothing: what the agent before had captured and not sent is lost, and a resync makes up for it.',
  ),
  RING_FULL: entry(
    EXIT.failure,
    true,
    'The receiver could not keep up. A resync runs by itself; look at link and receiver.',
  ),
  SPOOL_FULL: entry(
    EXIT.failure,
    true,
    'Give it more room (spool_bytes_max, or the file system of spool_dir), or bring the receiver back. What follows is tracked, and a resync runs by itself.',
  ),
  SPOOL_IO: entry(
    EXIT.failure,
    true,
    'Look at the disk and the permissions of spool_dir. It is tried again; until then the ring alone holds what the receiver has not.',
  ),
  SPOOL_CORRUPT: entry(
    EXIT.failure,
    false,
    'Look at the disk of spool_dir, and for whoever removes files there. What was spooled and not sent is lost as history; a resync makes up for it.',
  ),
  SPOOL_FOREIGN: entry(
    EXIT.failure,
    false,
    'Take the files away, if nobody needs them: another member or another program has put them there. They are not read, and nothing is lost.',
  ),
  VOLUME_GROWN: entry(
    EXIT.failure,
    true,
    'Nothing: a backing has become larger. A new generation begins, and what was in doubt is compared, with all that is new.',
  ),
  LSN_CEILING: entry(
    EXIT.failure,
    true,
    'The state directory could not be written in time. A resync runs by itself.',
  ),
  CLOSED: entry(EXIT.ok, true, 'The stream was ended on purpose.'),
  FUSE_UNAVAILABLE: entry(
    EXIT.unavailable,
    false,
    'Run the daemon as root where there is /dev/fuse, or use sockets: attach = "socket", an export without --device.',
  ),
  FUSE_MOUNT: entry(
    EXIT.failure,
    false,
    'Unmount what an earlier run left mounted there; otherwise see the message.',
  ),
  LOOP_UNAVAILABLE: entry(
    EXIT.unavailable,
    false,
    'Run the daemon as root where there is the loop driver, or use sockets: attach = "socket", an export without --device.',
  ),
  LOOP_ATTACH: entry(EXIT.failure, true, 'See the message and the kernel log.'),
  LOOP_BUSY: entry(EXIT.busy, true, 'Unmount the file system on the device first.'),
  DEVICE_RESIZE: entry(
    EXIT.failure,
    true,
    'The volume has grown, and its device has not yet: see the message. It is tried again every second; a stop and a start attach it anew.',
  ),
  LOOP_DETACH: entry(EXIT.failure, true, 'See the message and the kernel log; losetup shows the device.'),
  NBD_UNAVAILABLE: entry(
    EXIT.unavailable,
    false,
    'Load the nbd module (modprobe nbd, and a line in /etc/modules-load.d) and run the agent as root, or use attach = "loop".',
  ),
  NBD_ATTACH: entry(EXIT.failure, true, 'See the message and the kernel log.'),
  NBD_BUSY: entry(EXIT.busy, true, 'Unmount the file system on the device first.'),
  NBD_DETACH: entry(EXIT.failure, true, 'See the message and the kernel log.'),
  NBD_GONE: entry(EXIT.failure, true, 'Somebody has detached it; the agent attaches it anew.'),
  SLOTS_UNAVAILABLE: entry(EXIT.failure, true, 'Give the agent more memory: each volume needs a few MiB.'),
  SLOTS_LAYOUT: entry(
    EXIT.failure,
    false,
    'The volume is served. What was under way when the last agent died is finished where the kernel sends it again (Linux 6.9 and newer); on an older one those requests hang until the volume is given up. Hand over by SIGUSR2, which asks the next program first.',
  ),
  NOTIFY_FAILED: entry(
    EXIT.failure,
    true,
    'Look at the service manager that $NOTIFY_SOCKET names: without it a killed agent is noticed by production.',
  ),
  SUPERVISOR_UNAVAILABLE: entry(
    EXIT.failure,
    false,
    'Build it with npm run build, or run the agent under systemd instead of with --supervise.',
  ),
  MEMORY_UNAVAILABLE: entry(EXIT.failure, true, 'Give the agent more memory: each volume needs a few MiB.'),
  LISTEN_BUSY: entry(EXIT.busy, false, 'Choose another address, or stop the process that listens there.'),
  LISTEN_FAILED: entry(
    EXIT.failure,
    false,
    'See the message; the directory of a socket must exist and be writable.',
  ),

  // --- session ---
  RECEIVER_UNREACHABLE: entry(
    EXIT.unavailable,
    true,
    'The agent keeps trying. Look at the receiver and the link.',
  ),
  SESSION_LOST: entry(EXIT.unavailable, true, 'The agent reconnects by itself.'),
  SESSION_LIMIT: entry(
    EXIT.busy,
    true,
    'Too many agents are connected at once. This one tries again by itself.',
  ),
  SESSION_ORDER: entry(
    EXIT.failure,
    true,
    'A message arrived that the session did not allow. The agent reconnects.',
  ),
  FENCED: entry(
    EXIT.refused,
    false,
    'Stop one of the two agents that write this volume; if this state directory is a copy, remove it.',
  ),
  GROUP_MISMATCH: entry(
    EXIT.refused,
    false,
    'Use another name: a different group of that name exists at the receiver.',
  ),
  VOLUME_MISMATCH: entry(
    EXIT.refused,
    false,
    'Give the volume a name that is new to the receiver; a volume that it knows may have grown, not shrunk. A receiver of a version that knows no growth takes it under a new name only.',
  ),
  GENERATION_UNKNOWN: entry(
    EXIT.refused,
    true,
    'Wait: receiver and agent disagree about the stream; a new generation and a comparison follow.',
  ),
  GENERATION_INVALID: entry(
    EXIT.failure,
    false,
    'The agent numbered its stream wrongly, which is a defect. Please report it with the log.',
  ),
  AGENT_AWAY: entry(
    EXIT.unavailable,
    true,
    'Start the agent of this group, or find in its log why it is not connected.',
  ),

  // --- frames and journal ---
  FRAME_CORRUPT: entry(EXIT.damaged, true, 'The bytes changed on the way. The agent sends them again.'),
  FRAME_TRUNCATED: entry(EXIT.damaged, true, 'Part of a frame is missing. The agent sends it again.'),
  FRAME_VERSION: entry(EXIT.refused, false, 'Bring the receiver to the version of the agent.'),
  FRAME_FOREIGN: entry(
    EXIT.refused,
    false,
    'A frame of another group or host. Look for a cloned state directory.',
  ),
  FRAME_FENCED: entry(EXIT.refused, false, 'Stop the writer that sent it: another one has replaced it.'),
  FRAME_GENERATION: entry(EXIT.refused, true, 'A frame of another generation. The agent reconnects.'),
  FRAME_REPEATED: entry(EXIT.refused, true, 'A frame that the journal already has. The agent reconnects.'),
  FRAME_GAP: entry(EXIT.refused, true, 'Records are missing before this frame. The agent sends them again.'),
  FRAME_LINK: entry(EXIT.refused, true, 'The frame does not follow the last one. The agent reconnects.'),
  RECORD_INVALID: entry(
    EXIT.refused,
    false,
    'Report it with the logs of both sides: a record outside its volume is a defect of the agent, or an attack.',
  ),
  JOURNAL_STOPPED: entry(EXIT.refused, true, 'An earlier frame was refused. The agent reconnects.'),
  JOURNAL_OVERLOAD: entry(
    EXIT.refused,
    true,
    'Wait: the agent sent more than its window and reconnects. Report it when it happens again.',
  ),
  JOURNAL_FULL: entry(
    EXIT.full,
    true,
    'Free space in the store. Ingest goes on by itself; nothing acknowledged is lost.',
  ),
  JOURNAL_IO: entry(
    EXIT.failure,
    false,
    'Look at the kernel log and at who owns the files of the store. The journal is opened anew when the agent connects again, which it does by itself, ever more slowly; nothing acknowledged is lost.',
  ),
  SEGMENT_CORRUPT: entry(
    EXIT.damaged,
    false,
    'Choose a point that does not need the damaged part of the journal: those that do are graded `damaged`.',
  ),
  SEGMENT_VERSION: entry(EXIT.refused, false, 'Update the receiver: a newer version wrote the store.'),
  RUN_CORRUPT: entry(EXIT.damaged, true, 'The index is built again by itself.'),
  RUN_VERSION: entry(EXIT.refused, true, 'The index is built again by itself.'),

  // --- receiver's store ---
  STORE_MISSING: entry(EXIT.config, false, 'Create it with `afterimage receiver init`.'),
  STORE_EXISTS: entry(EXIT.refused, false, 'Choose a directory that is new or empty.'),
  STORE_BUSY: entry(EXIT.busy, false, 'Stop the receiver, or whatever else has the store open.'),
  STORE_VERSION: entry(EXIT.refused, false, 'Update the receiver: a newer version wrote the store.'),
  STORE_INVALID: entry(
    EXIT.damaged,
    false,
    'Keep a copy before doing anything: the store is not what its catalog says.',
  ),

  // --- recovery ---
  GROUP_UNKNOWN: entry(EXIT.notFound, false, 'Name one of the groups that `afterimage status` lists.'),
  VOLUME_UNKNOWN: entry(
    EXIT.notFound,
    false,
    'Name one of the volumes that `afterimage status` lists for the group.',
  ),
  POINT_INVALID: entry(
    EXIT.usage,
    false,
    'Write latest, lsn:N, lsn:MEMBER:N, an RFC 3339 time, -90s, or checkpoint:NAME.',
  ),
  POINT_UNKNOWN: entry(
    EXIT.notFound,
    false,
    'Choose a point in the window that `afterimage timeline GROUP` shows.',
  ),
  POINT_EXPIRED: entry(
    EXIT.notFound,
    false,
    'Retention has let go of it. Choose a point in the window that `afterimage timeline GROUP` shows; a longer `window`, or a pinned checkpoint, keeps what is still there.',
  ),
  POINT_TOO_LONG: entry(
    EXIT.refused,
    false,
    'Choose an earlier point: the history before this one lies in too many segments.',
  ),
  FILE_LIMIT: entry(
    EXIT.busy,
    true,
    'Close exports, or raise the limit of open files of the receiver (LimitNOFILE= of its unit).',
  ),
  POINT_GRADE: entry(
    EXIT.refused,
    false,
    'Choose an instant that is `ordered`, or take this one as it is with --force.',
  ),
  POINT_AMBIGUOUS: entry(
    EXIT.refused,
    false,
    'Name an LSN: the clock was set back, and that time happened twice.',
  ),
  CHECKPOINT_EXISTS: entry(EXIT.refused, false, 'Choose another name.'),
  CHECKPOINT_PENDING: entry(
    EXIT.unavailable,
    false,
    'Wait, and do not ask again: it is kept once everything up to it is in the journal, and in `afterimage checkpoint list` then.',
  ),
  CHECKPOINT_BUSY: entry(EXIT.busy, true, 'Ask again in a moment: too many checkpoints are under way.'),
  CHECKPOINT_UNKNOWN: entry(
    EXIT.notFound,
    false,
    'Name one of those that `afterimage checkpoint list` shows: retention lets go of those that are older than the window, unless they are pinned.',
  ),
  CHECKPOINT_LOCKED: entry(
    EXIT.refused,
    false,
    'Wait until then: no role can lift a retention lock. `afterimage checkpoint list` shows how long each lasts.',
  ),
  CHECKPOINT_PINNED: entry(EXIT.refused, false, 'Unpin it first: `afterimage checkpoint unpin GROUP NAME`.'),
  CHECKPOINT_INVALID: entry(
    EXIT.usage,
    false,
    'Choose a name of 1 to 64 letters, digits, ".", "_" or "-", beginning with a letter, a digit or "_".',
  ),
  BASE_MISSING: entry(
    EXIT.notFound,
    true,
    'Wait for the sync of the volume: it has no complete copy yet, or its copy was lost and the agent sends it again.',
  ),
  BASE_CORRUPT: entry(
    EXIT.damaged,
    false,
    'Choose a point that does not need the damaged block of the base: those that do are graded `damaged`. The agent compares and sends it again, so that what follows is right.',
  ),
  VERIFY_UNAVAILABLE: entry(
    EXIT.unavailable,
    true,
    'Only a group that is `protected` can be verified: wait until `afterimage status` says so, and run the command again.',
  ),
  VERIFY_BUSY: entry(
    EXIT.busy,
    true,
    'Wait until the verification under way has ended, or stop its command.',
  ),
  SCRUB_BUSY: entry(
    EXIT.busy,
    true,
    'Wait until the scrub under way has ended: `afterimage status` shows it.',
  ),
  SCRATCH_UNAVAILABLE: entry(
    EXIT.failure,
    false,
    'Make the scratch directory (scratch_dir, or scratch/ in the store) writable for the receiver, and see that it has space.',
  ),
  EXPORT_UNKNOWN: entry(EXIT.notFound, false, 'Name one of those that `afterimage export list` shows.'),
  EXPORT_BUSY: entry(EXIT.busy, true, 'Unmount the exported device first.'),
  EXPORT_LIMIT: entry(EXIT.busy, true, 'Close exports that are not needed any more.'),
  TARGET_NOT_EMPTY: entry(
    EXIT.refused,
    false,
    'Choose another target, or overwrite it with --yes. An interrupted recovery goes on with the point that is named.',
  ),
  TARGET_TOO_SMALL: entry(EXIT.refused, false, 'Choose a target that is at least as large as the volume.'),
  TARGET_BUSY: entry(EXIT.busy, false, 'Unmount it or stop what uses it, or choose another target.'),
  TARGET_INVALID: entry(
    EXIT.usage,
    false,
    'Recover a volume to a file or device, a group to a directory, and neither into the store.',
  ),
  VERIFY_FAILED: entry(
    EXIT.damaged,
    false,
    'Replace the disk: the target does not read back what was written.',
  ),
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof ERRORS;

export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(ERRORS, code);
}

/** An error with a stable code. `message` says what happened, to what; the registry says what to do about it. */
export class AfterimageError extends Error {
  override readonly name = 'AfterimageError';
  constructor(
    readonly code: ErrorCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
  get hint(): string {
    return ERRORS[this.code].hint;
  }
  get retryable(): boolean {
    return ERRORS[this.code].retryable;
  }
  get exit(): number {
    return ERRORS[this.code].exit;
  }
}

/** Anything thrown, as an AfterimageError: coded errors (also the addon's) keep their code, others are INTERNAL. */
export function toAfterimageError(thrown: unknown): AfterimageError {
  if (thrown instanceof AfterimageError) return thrown;
  if (thrown instanceof Error) {
    const code = (thrown as Error & { code?: unknown }).code;
    return new AfterimageError(isErrorCode(code) ? code : 'INTERNAL', thrown.message, { cause: thrown });
  }
  return new AfterimageError('INTERNAL', String(thrown));
}
