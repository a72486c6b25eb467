/** A session in a process that goes on with the stream of one that was killed. */
import t from 'tap';
import type { InheritedStream, StoredState } from '../../agent/session_events.js';
import { COMPLETE, IDENTITY, ring, Script, SYNCED } from './session_script.js';

/** Of the predecessor: it was running. */
const STORED: StoredState = {
  epoch: 4n,
  generation: 2n,
  durableLsn: 50n,
  lsnCeiling: 500n,
  clean: false,
  volumes: IDENTITY.volumes,
  timeNs: 9n,
  era: 1,
  acceptedGeneration: 0n,
  processes: [],
  unwelcomedLogs: [],
};
const INHERITED: InheritedStream = {
  ...{ generation: 2n, capturedLsn: 140n, releasedLsn: 100n, lsnCeiling: 450n },
  hasEnded: false,
};

function succeeding(inherited = INHERITED, stored = STORED): Script {
  const script = new Script();
  script.feed({ type: 'started', stored, identity: IDENTITY, inherited, logs: [] });
  script.feed({ type: 'persisted' });
  return script;
}

t.test('the stream of a killed predecessor goes on in a new epoch, from what the receiver has', (t) => {
  const script = new Script();
  script.feed({ type: 'started', stored: STORED, identity: IDENTITY, inherited: INHERITED, logs: [] });
  t.match(script.get('persist')?.state, { epoch: 5n, generation: 2n, durableLsn: 100n, lsnCeiling: 1140n });
  script.feed({ type: 'persisted' });
  t.match(script.get('open'), { goesOn: true, resume: { epoch: 5n, generation: 2n, lsnCeiling: 1140n } });
  script.feed({ type: 'opened' });
  script.connect();
  t.match(script.get('send')?.message, {
    hello: { epoch: 5n, generation: 2n, durableLsn: 100n, capturedLsn: 140n, continuous: true },
  });
  // More than the predecessor was told of, and no more than it had captured.
  script.welcome(2n, 130n, SYNCED);
  t.match(script.get('release'), { lsn: 130n });
  t.match(script.get('startShipping'), { durableLsn: 130n });
  t.same(script.said(), [], 'nothing is synced');
  script.frame(131n, 150n);
  script.ack(150n);
  t.equal(script.session.state, 'protected');
  t.end();
});

// A whole initial sync was sent, and thrown away when the next generation began.
t.test('what is left of a stream that was closed is sent, and nothing is synced in its generation', (t) => {
  for (const hasEnded of [false, true]) {
    const script = succeeding({ ...INHERITED, hasEnded });
    script.feed({ type: 'opened' });
    script.connect();
    script.welcome(2n, 130n, COMPLETE);
    t.match(script.get('startShipping'), { durableLsn: 130n });
    t.equal(script.said().includes('syncBegin'), !hasEnded);
  }
  t.end();
});

t.test('a receiver that has other records than the predecessor captured gets a new generation', (t) => {
  for (const durableLsn of [99n, 141n]) {
    const script = succeeding();
    script.feed({ type: 'opened' });
    script.connect();
    script.welcome(2n, durableLsn, SYNCED);
    t.match(script.get('abandonStream'), { reason: 'WATERMARK_INVALID' }, `durable up to ${durableLsn}`);
    t.notOk(script.get('startShipping'));
  }
  t.end();
});

t.test('with other volumes the inherited stream is given up, and production stays in', (t) => {
  const script = new Script();
  const stored = { ...STORED, volumes: [] };
  script.feed({ type: 'started', stored, identity: IDENTITY, inherited: INHERITED, logs: [] });
  script.feed({ type: 'persisted' });
  t.match(script.get('open'), { goesOn: true, resume: null });
  script.feed({ type: 'opened' });
  script.connect();
  t.match(script.get('send')?.message, { hello: { continuous: false } });
  script.welcome(2n, 140n, SYNCED);
  t.match(script.get('persist')?.state, { generation: 3n });
  t.end();
});

t.test('a generation that was reserved and never begun is not used again', (t) => {
  const script = succeeding(INHERITED, { ...STORED, generation: 7n });
  t.match(script.get('open'), { resume: { generation: 2n } });
  script.feed({ type: 'opened' });
  script.connect();
  script.welcome(2n, 141n, SYNCED);
  script.feed({ type: 'streamEnded', generation: 2n, lastLsn: 140n, reason: 'CLOSED', timeNs: 5n });
  t.match(script.get('persist')?.state, { generation: 8n });
  t.end();
});

// Production is in, whatever this process has done so far: it must be let out in order, and a stop is not clean before
// all of it is durable.
t.test('a stop that comes before the successor has begun still lets production out', (t) => {
  const script = new Script();
  script.feed({ type: 'started', stored: STORED, identity: IDENTITY, inherited: INHERITED, logs: [] });
  t.same(script.feed({ type: 'stopRequested' }), []);
  script.feed({ type: 'persisted' });
  t.same(script.types(), ['open']);
  script.feed({ type: 'opened' });
  t.same(script.types(), ['quiesce', 'connect']);
  script.feed({ type: 'quiesced', ring: ring(140n) });
  script.feed({ type: 'stopExpired' });
  t.match(script.get('persist')?.state, { clean: false });
  t.end();
});
