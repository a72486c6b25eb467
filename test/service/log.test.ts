import t from 'tap';
import { AfterimageError } from '../../proto/errors.js';
import { createLog } from '../../service/log.js';

function logged(write: (log: ReturnType<typeof createLog>) => void): Record<string, unknown>[] {
  const lines: Record<string, unknown>[] = [];
  const log = createLog('agent', 'info', {
    write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>),
  });
  write(log);
  return lines;
}

t.test('a line names daemon, level and time, and what its part adds', (t) => {
  const [line] = logged((log) => log.child({ group: 'db' }).warn({ volumes: 2 }, 'resync begins'));
  t.match(line, { level: 'warn', daemon: 'agent', group: 'db', volumes: 2, msg: 'resync begins' });
  t.match(line?.['time'], /^\d{4}-\d\d-\d\dT.*Z$/);
  t.end();
});

t.test('numbers of 64 bits come out whole, at any depth', (t) => {
  const lsn = 2n ** 63n + 1n;
  const [line] = logged((log) => log.info({ lsn, ack: { durable: [lsn] } }, 'x'));
  t.match(line, { lsn: '9223372036854775809', ack: { durable: ['9223372036854775809'] } });
  t.end();
});

t.test('an error is logged with its code, hint and stack', (t) => {
  const [line] = logged((log) => log.error({ err: new AfterimageError('RING_FULL', 'db') }, 'x'));
  t.match(line, { err: { code: 'RING_FULL', message: 'db', hint: String, stack: /log\.test/ } });
  t.end();
});

t.test('what is below the level is not written', (t) => {
  t.equal(logged((log) => log.debug('x')).length, 0);
  t.end();
});
