import t from 'tap';
import { commonProtocol, PROTOCOL_VERSION, PROTOCOL_VERSION_OLDEST } from '../../proto/replication.js';

t.test('of the versions that both sides speak the newest', (t) => {
  t.ok(PROTOCOL_VERSION_OLDEST >= 1 && PROTOCOL_VERSION_OLDEST <= PROTOCOL_VERSION);
  const common = (protocolOldest: number, protocol: number): number | null =>
    commonProtocol({ protocolOldest, protocol });
  t.equal(common(PROTOCOL_VERSION_OLDEST, PROTOCOL_VERSION), PROTOCOL_VERSION);
  t.equal(
    common(PROTOCOL_VERSION, PROTOCOL_VERSION + 1),
    PROTOCOL_VERSION,
    'a newer one that speaks this too',
  );
  t.equal(common(PROTOCOL_VERSION + 1, PROTOCOL_VERSION + 2), null, 'a newer one that does not');
  t.equal(common(0, PROTOCOL_VERSION), PROTOCOL_VERSION, 'one that names no oldest');
  t.equal(common(0, PROTOCOL_VERSION + 1), null);
  t.equal(common(0, 0), null);
  t.equal(common(PROTOCOL_VERSION + 1, PROTOCOL_VERSION), null, 'nonsense');
  t.end();
});
