/** Whatever a user does wrong: a code, its subject, a remedy that says what to do, and a documented exit status. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { AfterimageError, ERRORS, type ErrorCode } from '../../proto/errors.js';
import { cannedReceiver, invoke, noDaemons, temporary } from './canned.js';

const page = (name: string): string =>
  readFileSync(fileURLToPath(new URL(`../../../docs/${name}`, import.meta.url)), 'utf8');

/** Situation by situation, the codes with which the agent, the receiver or the command refuses it. */
const SITUATIONS: Readonly<Record<string, readonly ErrorCode[]>> = {
  'an unknown key in the configuration': ['CONFIG_INVALID'],
  'no configuration': ['CONFIG_MISSING'],
  'an address that others could reach': ['ADDRESS_NOT_LOOPBACK'],
  'more volumes than a group takes': ['VOLUME_LIMIT'],
  'a backing that is missing': ['BACKING_MISSING'],
  'a backing that is mounted or in use': ['BACKING_BUSY'],
  'a backing that is too small, or no disk': ['BACKING_INVALID'],
  'a backing that has shrunk': ['BACKING_RESIZED', 'VOLUME_MISMATCH'],
  'a backing that holds the state': ['BACKING_ON_ITSELF'],
  'a receiver that is full': ['JOURNAL_FULL'],
  'a receiver that is away': [
    'RECEIVER_UNREACHABLE',
    'DAEMON_UNREACHABLE',
    'DAEMON_TIMEOUT',
    'DAEMON_MISMATCH',
  ],
  'a receiver of another version': ['PROTOCOL_VERSION', 'FRAME_VERSION', 'STORE_VERSION', 'SEGMENT_VERSION'],
  'a receiver that knows another generation': ['GENERATION_UNKNOWN', 'GROUP_MISMATCH'],
  'an agent that is away': ['AGENT_AWAY'],
  'a group that there is not': ['GROUP_UNKNOWN'],
  'a point that cannot be meant': ['POINT_INVALID', 'POINT_AMBIGUOUS', 'CHECKPOINT_INVALID'],
  'a point outside the window': ['POINT_UNKNOWN', 'CHECKPOINT_UNKNOWN'],
  'a point inside a gap': ['POINT_GRADE'],
  'a point before the first copy': ['BASE_MISSING'],
  'a checkpoint while the receiver lags': ['CHECKPOINT_PENDING'],
  'a volume that the group lacks': ['VOLUME_UNKNOWN'],
  'a name that is taken': ['CHECKPOINT_EXISTS', 'STORE_EXISTS'],
  'an export that is in use, or not there': ['EXPORT_BUSY', 'EXPORT_LIMIT', 'EXPORT_UNKNOWN'],
  'a target that is not empty': ['TARGET_NOT_EMPTY'],
  'a target that is too small': ['TARGET_TOO_SMALL'],
  'a target that is in use': ['TARGET_BUSY'],
  'a target that can be none': ['TARGET_INVALID'],
  'a second agent for the same volume': ['STATE_BUSY', 'BACKING_BUSY', 'FENCED', 'FRAME_FENCED'],
  'a second receiver': ['STORE_BUSY', 'LISTEN_BUSY'],
  'no store, or a foreign one': ['STORE_MISSING', 'STORE_INVALID'],
  'a state that is damaged': ['STATE_INVALID'],
  'a user who may not': ['PERMISSION_DENIED', 'FUSE_UNAVAILABLE', 'LOOP_UNAVAILABLE'],
  'scratch space that is missing': ['SCRATCH_UNAVAILABLE'],
  'a list that is too long': ['MESSAGE_TOO_LARGE'],
  'a peer that does what it must not': ['RECORD_INVALID', 'JOURNAL_OVERLOAD', 'CHECKPOINT_BUSY'],
  'a command line that cannot be meant': ['USAGE'],
  'Ctrl-C': ['INTERRUPTED'],
};

/** A remedy begins with what to do. */
const IMPERATIVE = new RegExp(
  '^(Ask|Bring|Choose|Close|Correct|Create|Free|Give|Keep|Lower|Look|Make|Name|Put|Recover|Report|Restore|Run|See|' +
    'Start|Stop|The agent keeps trying\\. Look|The daemon is busy or stuck: look|Unmount|Update|Use|Wait|Write)\\b',
);

t.test('every way to be wrong has a remedy that says what to do, and a documented status', (t) => {
  const statuses = new Set(
    Array.from(page('ERRORS.md').matchAll(/^\| (\d+) \|/gm), ([, status]) => Number(status)),
  );
  t.ok(statuses.size > 5, 'the page has a table of them');
  t.match(page('CLI.md'), /\[Errors and exit\s+statuses\]\(ERRORS\.md\)/, 'where docs/CLI.md leads');
  for (const [situation, codes] of Object.entries(SITUATIONS)) {
    for (const code of codes) {
      const { hint, exit } = ERRORS[code];
      t.match(hint, IMPERATIVE, `${situation}: ${code}`);
      t.ok(exit !== 0 && statuses.has(exit), `${code} ends with ${exit}`);
    }
  }
  t.end();
});

t.test(
  'the command shows code, subject and remedy, and ends with the status, for each of them',
  async (t) => {
    for (const code of new Set(Object.values(SITUATIONS).flat())) {
      const failure = new AfterimageError(code, `what is wrong with db, ${code}`);
      // One of a daemon that gives up, and one that came from the other end of a socket.
      const daemons = { ...noDaemons, runAgent: () => Promise.reject(failure) };
      const runDir = await temporary(t);
      await cannedReceiver(t, runDir, { failure });
      const daemon = await invoke(runDir, ['agent', 'run', '--json'], { daemons });
      const verb = await invoke(runDir, ['export', 'db', '--at', 'latest', '--json']);
      const { hint, retryable, exit } = ERRORS[code];
      for (const { status, stdout, stderr } of [daemon, verb]) {
        t.strictSame([status, stdout], [exit, ''], code);
        t.same(JSON.parse(stderr), { error: { code, message: failure.message, hint, retryable } });
      }
    }
  },
);
