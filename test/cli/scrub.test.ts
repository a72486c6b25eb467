import t from 'tap';
import type { ScrubProgress } from '../../proto/control.js';
import { cannedReceiver, invoke, receiverStatus, temporary } from './canned.js';
import { renderStatus } from '../../cli/status_view.js';

function step(change: Partial<ScrubProgress>): ScrubProgress {
  const member = { group: 'db', member: 'm', host: 'host1' };
  return {
    ...member,
    bytesDone: 0n,
    bytesTotal: 1000n,
    damaged: 0n,
    unsummed: 0n,
    phase: 'scrub',
    ...change,
  };
}

t.test('progress on stderr, a line a member on stdout', async (t) => {
  const runDir = await temporary(t);
  const asked = await cannedReceiver(t, runDir, {
    async *scrub() {
      await Promise.resolve();
      yield step({});
      yield step({ bytesDone: 50n });
      yield step({ bytesDone: 500n });
      yield step({ bytesDone: 1000n, phase: 'done' });
    },
  });
  const { status, stdout, stderr } = await invoke(runDir, ['receiver', 'scrub', 'db', '--rate', '1MiB']);
  t.equal(status, 0);
  t.same(asked, [['scrub', { group: 'db', rateMax: 1024n * 1024n }]]);
  t.equal(stdout, 'GROUP  HOST     READ  DAMAGED\ndb     host1  1000 B        0\n');
  t.equal(
    stderr,
    ['0 %, 0 B', '50 %, 500 B', '100 %, 1000 B']
      .map((share) => `scrubbing db on host1: ${share} of 1000 B\n`)
      .join(''),
  );
});

t.test('damage that was found: where to look, and 9', async (t) => {
  const runDir = await temporary(t);
  const asked = await cannedReceiver(t, runDir, {
    async *scrub() {
      await Promise.resolve();
      yield step({ bytesDone: 1000n, damaged: 2n, phase: 'done' });
    },
  });
  const shown = await invoke(runDir, ['receiver', 'scrub']);
  t.equal(shown.status, 9);
  t.match(shown.stdout, /\ndb: `afterimage timeline db` shows which instants that is\n$/);
  t.same(asked, [['scrub', { group: '', rateMax: 0n }]], 'every group, at the rate that is configured');
  const json = await invoke(runDir, ['receiver', 'scrub', '--json']);
  t.equal(json.status, 9);
  t.match(JSON.parse(json.stdout), { scrubbed: [{ group: 'db', damaged: 2, bytesTotal: 1000 }] });
});

t.test('checksums that were lost: what to do, and no damage', async (t) => {
  const runDir = await temporary(t);
  await cannedReceiver(t, runDir, {
    async *scrub() {
      await Promise.resolve();
      yield step({ bytesDone: 1000n, unsummed: 126n, phase: 'done' });
    },
  });
  const { status, stdout } = await invoke(runDir, ['receiver', 'scrub']);
  t.equal(status, 0);
  t.match(stdout, /\ndb on host1: 126 blocks had lost their checksum .*`afterimage verify db` compares them/);
});

t.test('a receiver without groups', async (t) => {
  const runDir = await temporary(t);
  await cannedReceiver(t, runDir);
  const { status, stderr } = await invoke(runDir, ['receiver', 'scrub']);
  t.equal(status, 5);
  t.match(stderr, /^error GROUP_UNKNOWN/);
});

t.test('status: a scrub under way, and one that found damage', (t) => {
  const none = { agent: null, agentError: null, receiverError: null };
  const of = (change: object): string => {
    const whole = { ...step({}), bytesTotal: 0n, finishedNs: 0n, ...change };
    return renderStatus({ ...none, receiver: { ...receiverStatus, scrubs: [whole] } }, (text) => text);
  };
  t.notMatch(of({}), 'scrub');
  t.notMatch(of({ finishedNs: 10n }), 'scrub', 'a good one is worth no line');
  t.match(of({ bytesTotal: 1000n, bytesDone: 250n }), 'scrub of db on host1: 25 %\n');
  t.match(of({ finishedNs: 10n, damaged: 3n }), /scrub of db on host1, 1970-\S+: 3 damaged places found\n/);
  t.match(of({ finishedNs: 10n, unsummed: 3n }), /: 3 blocks had lost their checksum\n/);
  t.match(of({ finishedNs: 10n, damaged: 1n, unsummed: 3n }), /: 1 damaged places found, 3 blocks had/);
  t.end();
});
