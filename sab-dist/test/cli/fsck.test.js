import t from 'tap';
import { AfterimageError } from '../../proto/errors.js';
import { finding, NOWHERE } from '../../receiver/fsck/finding.js';
import { invoke, noDaemons, Recorder } from './canned.js';
const SHOP = { group: 'shop', host: 'host1' };
const DAMAGE = finding('SEGMENT_DAMAGED', SHOP, '/store/a.seg', 'FRAME_CORRUPT: crc', {
    firstLsn: 9007199254740993n,
    lastLsn: 9007199254740999n,
});
const WRONG = finding('RUN_WRONG', SHOP, '/store/a.run', 'checksum of a page');
const OTHER = finding('RUN_WRONG', SHOP, '/store/b.run', 'header checksum');
function report(verdict, findings) {
    return { store: '/store', verdict, segments: 3, bytesRead: 12n * 1024n * 1024n, findings };
}
/** A check that finds `found`, and `repaired` after a repair. */
function canned(found, repaired = found) {
    const asked = [];
    const daemons = {
        ...noDaemons,
        storeOf: () => Promise.resolve('/configured'),
        async checkStore({ store, rate, progress, confirm }) {
            asked.push({ store, rate });
            for (const bytesDone of [0n, 5n, 6n, 100n]) {
                progress({ file: '/store/a.seg', bytesDone, bytesTotal: 100n });
            }
            return confirm !== null && (await confirm(found)) ? repaired : found;
        },
    };
    return { daemons, asked };
}
t.test('a sound store: one line, and 0', async (t) => {
    const { daemons, asked } = canned(report('sound', []));
    const { status, stdout, stderr } = await invoke('/home/operator', ['receiver', 'fsck', 'store', '--rate', '10MiB'], {
        daemons,
    });
    t.strictSame([status, stdout], [0, '/store: sound (3 segments, 12.0 MiB read)\n']);
    t.equal(stderr, 'checking a.seg: 0 %, 0 B of 100 B\nchecking a.seg: 100 %, 100 B of 100 B\n', 'a line every ten per cent');
    t.same(asked, [{ store: '/home/operator/store', rate: 10n * 1024n * 1024n }]);
    await invoke('/home/operator', ['receiver', 'fsck'], { daemons });
    t.same(asked.at(-1), { store: '/configured', rate: null }, 'without a directory: that of the configuration');
});
t.test('each verdict has its status', async (t) => {
    const statuses = [
        ['sound', 0],
        ['damaged', 9],
        ['repaired', 10],
        ['repairable', 11],
        ['unchecked', 12],
    ];
    for (const [verdict, expected] of statuses) {
        const { daemons } = canned(report(verdict, []));
        t.equal((await invoke('/', ['receiver', 'fsck', '/store'], { daemons })).status, expected, verdict);
    }
    const daemons = {
        ...noDaemons,
        checkStore: () => Promise.reject(new AfterimageError('STORE_BUSY', '/store is in use')),
    };
    const { status, stderr } = await invoke('/', ['receiver', 'fsck', '/store'], { daemons });
    t.equal(status, 7);
    t.match(stderr, /^error STORE_BUSY: \/store is in use/);
});
t.test('findings: the worst first, and what is the same for several said once', async (t) => {
    const { daemons } = canned(report('damaged', [WRONG, OTHER, DAMAGE]));
    const { stdout } = await invoke('/', ['receiver', 'fsck', '/store'], { daemons });
    t.equal(stdout, `/store: damaged (3 segments, 12.0 MiB read)

damage SEGMENT_DAMAGED
  shop on host1: /store/a.seg: FRAME_CORRUPT: crc
  ${DAMAGE.meaning}
  → ${DAMAGE.remedy}

repairable RUN_WRONG
  shop on host1: /store/a.run: checksum of a page
  shop on host1: /store/b.run: header checksum
  ${WRONG.meaning}
  → ${WRONG.remedy}
`);
    const escape = finding('FILE_UNKNOWN', NOWHERE, '/store/\x1b[2J', 'no part of the store');
    const shown = await invoke('/', ['receiver', 'fsck', '/store'], canned(report('sound', [escape])));
    t.notMatch(shown.stdout, '\x1b', 'a name reaches no terminal as an escape sequence');
});
t.test('as JSON: LSNs are strings, bytes numbers; progress is JSON too', async (t) => {
    const { daemons } = canned(report('damaged', [DAMAGE]));
    const { status, stdout, stderr } = await invoke('/', ['receiver', 'fsck', '/store', '--json'], { daemons });
    t.equal(status, 9);
    t.match(JSON.parse(stdout), {
        store: '/store',
        verdict: 'damaged',
        segments: 3,
        bytesRead: 12 * 1024 * 1024,
        findings: [
            {
                code: 'SEGMENT_DAMAGED',
                severity: 'damage',
                group: 'shop',
                host: 'host1',
                subject: '/store/a.seg',
                firstLsn: '9007199254740993',
                lastLsn: '9007199254740999',
                repaired: false,
            },
        ],
    });
    const [first = ''] = stderr.split('\n');
    t.same(JSON.parse(first), { progress: { file: '/store/a.seg', bytesDone: 0, bytesTotal: 100 } });
});
t.test('a repair asks, or takes --yes; where nobody can be asked it is refused', async (t) => {
    const repaired = report('repaired', [{ ...WRONG, repaired: true }]);
    const { daemons } = canned(report('repairable', [WRONG]), repaired);
    const argv = ['receiver', 'fsck', '/store', '--repair'];
    const refused = await invoke('/', argv, { daemons });
    t.equal(refused.status, 2);
    t.match(refused.stderr, /^error USAGE: .*--yes/);
    const yes = await invoke('/', [...argv, '--yes'], { daemons });
    t.strictSame([yes.status, yes.stdout], [
        10,
        `/store: repaired (3 segments, 12.0 MiB read)

repairable RUN_WRONG
  shop on host1: /store/a.run: checksum of a page [repaired]
  ${WRONG.meaning}
`,
    ]);
    const questions = [];
    for (const answer of [true, false]) {
        const stderr = new Recorder(true);
        const ask = (question) => {
            questions.push(question);
            return Promise.resolve(answer);
        };
        const asked = await invoke('/', argv, { daemons, ask, stderr });
        t.equal(asked.status, answer ? 10 : 11);
        t.match(asked.stdout, /repairable \(3 segments/, 'what there is to repair is shown before');
    }
    t.same(questions, ['Repair it?', 'Repair it?']);
});
//# sourceMappingURL=fsck.test.js.map