/** The service manager is told as long as requests make progress, or wait for a disk. */
import pino from 'pino';
import t from 'tap';
import { STUCK_MS, Watchdog, type VolumeActivity } from '../../agent/watchdog.js';
import { watchdogMs } from '../../service/service_manager.js';

const silent = pino({ level: 'silent' });

function scene() {
  const here = { volumes: [] as VolumeActivity[], now: 0, told: 0 };
  const parts = {
    volumes: () => here.volumes,
    notify: () => void (here.told += 1),
    nowMs: () => here.now,
    log: silent,
  };
  const watchdog = new Watchdog(60_000, parts);
  const after = (ms: number, ...volumes: VolumeActivity[]): boolean => {
    here.now += ms;
    here.volumes = volumes;
    const before = here.told;
    watchdog.look();
    return here.told > before;
  };
  return { after, watchdog };
}
const volume = (underWay: number, atBacking: number, ended: bigint, title = 'a'): VolumeActivity => ({
  title,
  underWay,
  atBacking,
  ended,
});

t.test('requests that end, or of which there are none', (t) => {
  const { after } = scene();
  t.ok(after(0));
  for (let ended = 0n; ended < 5n; ended += 1n)
    t.ok(after(STUCK_MS * 2, volume(3, 0, ended)), 'each time one has ended');
  for (let at = 0; at < 3; at += 1) t.ok(after(STUCK_MS * 2, volume(0, 0, 5n)), 'idle');
  t.end();
});

t.test('a backing that hangs is waited for', (t) => {
  const { after, watchdog } = scene();
  for (let at = 0; at < 5; at += 1) t.ok(after(STUCK_MS, volume(32, 1, 7n)));
  t.match(watchdog.checks(), [{}, { fault: null }]);
  t.end();
});

t.test('requests that are stuck in this program', (t) => {
  const { after, watchdog } = scene();
  const other = volume(1, 0, 0n, 'b');
  t.ok(after(0, volume(2, 0, 7n)));
  t.ok(after(STUCK_MS - 1, volume(2, 0, 7n)), 'not yet');
  t.notOk(after(1, volume(2, 0, 7n), other));
  t.match(watchdog.checks(), [{ fault: null }, { name: 'I/O', fault: 'requests of a make no progress' }]);
  t.ok(after(1, volume(2, 0, 8n)), 'one has ended after all');
  t.ok(after(STUCK_MS - 1, volume(2, 0, 8n)));
  t.ok(after(1, volume(0, 0, 8n)));
  t.ok(after(STUCK_MS, volume(2, 0, 8n)), 'they are new');
  t.end();
});

t.test('whom the service manager watches', (t) => {
  t.equal(watchdogMs({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '7' }, 7), 30_000);
  t.equal(watchdogMs({ WATCHDOG_USEC: '30000000' }, 7), 30_000);
  t.equal(watchdogMs({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '8' }, 7), null);
  t.equal(watchdogMs({}, 7), null);
  t.equal(watchdogMs({ WATCHDOG_USEC: 'x' }, 7), null);
  t.end();
});
