import t from 'tap';
import { forecastSeconds } from '../../receiver/metrics.js';

const HOUR_NS = 3_600_000_000_000n;
const GIB = 1n << 30n;
const member = {
  windowBeginNs: HOUR_NS,
  windowEndNs: 3n * HOUR_NS,
  journalBytes: 10n * GIB,
  journalBytesMax: 0n,
};

t.test('for how long the journal could be held', (t) => {
  t.equal(forecastSeconds(member, 30n * GIB), 8 * 3600, 'four times as many bytes as two hours have had');
  t.equal(
    forecastSeconds({ ...member, journalBytesMax: 15n * GIB }, 30n * GIB),
    3 * 3600,
    'its limit comes first',
  );
  t.equal(
    forecastSeconds({ ...member, journalBytesMax: 90n * GIB }, 30n * GIB),
    8 * 3600,
    'the disk comes first',
  );
  t.equal(
    forecastSeconds({ ...member, windowEndNs: HOUR_NS + 59_000_000_000n }, GIB),
    null,
    'a minute is no rate',
  );
  t.equal(forecastSeconds({ ...member, journalBytes: 0n }, GIB), null);
  t.end();
});
