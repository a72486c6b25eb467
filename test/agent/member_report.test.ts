import t from 'tap';
import { MemberReport } from '../../agent/member_report.js';
import type { VolumeState } from '../../proto/replication.js';
import { createLog } from '../../service/log.js';

const SYNCED: VolumeState = { number: 0, base: 'BASE_COMPLETE', syncOffset: 0n, synced: true, whole: false };
const welcome = {
  software: 'r',
  protocol: 1,
  storeVersion: 1,
  generation: 1n,
  durableLsn: 5n,
  link: 0,
  hashKey: Buffer.alloc(32),
  ended: false,
};

function scene() {
  const lines: Record<string, unknown>[] = [];
  const clock = { ms: 0 };
  const write = (line: string): void => void lines.push(JSON.parse(line) as Record<string, unknown>);
  const report = new MemberReport(createLog('agent', 'info', { write }), () => clock.ms);
  return { report, lines, clock };
}

t.test('a receiver that is away is logged at once, then once a minute, and when it is back', (t) => {
  const { report, lines, clock } = scene();
  for (clock.ms = 0; clock.ms <= 130_000; clock.ms += 10_000) {
    report.failed({ code: 'RECEIVER_UNREACHABLE', message: 'nobody answers', final: false });
  }
  t.match(lines, [
    { level: 'warn', code: 'RECEIVER_UNREACHABLE', times: undefined },
    { level: 'warn', times: 6 },
    { level: 'warn', times: 6 },
  ]);
  t.equal(lines.length, 3);
  t.equal(report.detail, 'RECEIVER_UNREACHABLE: nobody answers');
  report.received({ sequence: 0, welcome: { ...welcome, volumes: [SYNCED] } });
  t.match(lines[3], { level: 'info', msg: 'connected', unloggedFailures: 1 });
  t.equal(report.detail, '');
  report.failed({ code: 'RECEIVER_UNREACHABLE', message: 'nobody answers', final: false });
  t.match(lines[4], { level: 'warn' }, 'the next time is news again');
  t.end();
});

t.test('why a stream was interrupted stays the detail until a later generation is synced', (t) => {
  const { report, lines } = scene();
  report.interrupted(1n, 'RING_FULL', 'the ring is full');
  t.match(lines[0], { level: 'warn', code: 'RING_FULL' });
  report.synced(1n); // what the session believes of a stream that the ring has closed
  report.failed({ code: 'SESSION_LOST', message: 'gone', final: false });
  t.equal(report.detail, 'RING_FULL: the ring is full; SESSION_LOST: gone');
  report.received({ sequence: 0, welcome: { ...welcome, volumes: [] } });
  t.equal(report.detail, 'RING_FULL: the ring is full');
  report.synced(2n);
  t.equal(report.detail, '');
  t.end();
});

t.test('a generation and its syncs are told', (t) => {
  const { report, lines } = scene();
  const volumes = [{ ...SYNCED, synced: false }];
  report.sent({
    sequence: 0,
    generationBegin: { generation: 2n, firstLsn: 9n, reason: 'RING_FULL', volumes: [] },
  });
  report.received({ sequence: 0, generationAccepted: { generation: 2n, volumes } });
  report.sent({ sequence: 1, syncBegin: { volume: 0, kind: 'SYNC_RESYNC', offset: 0n, partial: true } });
  t.strictSame([...report.syncedVolumes], []);
  report.received({ sequence: 1, syncComplete: { volume: 0, lsn: 12n } });
  t.strictSame([...report.syncedVolumes], [0]);
  t.match(lines, [
    { level: 'info', msg: 'generation begun', generation: '2', reason: 'RING_FULL' },
    { level: 'info', msg: 'sync begun', volume: 0, kind: 'SYNC_RESYNC' },
    { level: 'info', msg: 'sync complete', volume: 0, lsn: '12' },
  ]);
  t.end();
});
