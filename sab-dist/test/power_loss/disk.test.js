/** What a disk may hold, worked out from a record: by hand-made records whose answer is known. */
import t from 'tap';
import { Disk } from './disk.js';
import { sampleState, SAMPLE_KINDS } from './sampler.js';
import { pseudorandom } from '../scenario/seed.js';
/** A record, written down as it happens: each operation ends before the next begins, unless it is held open. */
class Script {
    operations = [];
    moment = 0;
    add(kind, more) {
        const begin = (this.moment += 1);
        const end = (this.moment += 1);
        const operation = {
            ...{ index: this.operations.length, kind, isDataOnly: false, error: 0, begin, end },
            ...{ beginNs: BigInt(begin), endNs: BigInt(end), file: 0, offset: 0, length: 0 },
            ...{ path: '', target: '', data: Buffer.alloc(0) },
            ...more,
        };
        this.operations.push(operation);
        return operation;
    }
    create = (path, file) => this.add('create', { path, file });
    mkdir = (path) => this.add('mkdir', { path });
    rename = (path, target) => this.add('rename', { path, target });
    unlink = (path) => this.add('unlink', { path });
    write = (file, offset, text) => this.add('write', { file, offset, length: text.length, data: Buffer.from(text), path: '/f' });
    truncate = (file, size) => this.add('truncate', { file, offset: size });
    sync = (file, error = 0) => this.add('sync', { file, error });
    syncDirectory = (path) => this.add('syncdir', { path });
}
const has = (...kept) => ({
    hasName: (operation) => kept.includes(operation),
    hasSize: (operation) => kept.includes(operation),
    hasSector: (operation) => kept.includes(operation),
});
function left(script, choice, moment = Infinity) {
    const disk = new Disk(script.operations);
    disk.advance(moment);
    const { files } = disk.choose(choice);
    return Object.fromEntries(files.map((file) => [file.path, file.content().toString().replaceAll('\0', '.')]));
}
t.test('only what a sync that has ended covers is certain', (t) => {
    const script = new Script();
    script.create('/f', 1);
    script.syncDirectory('/');
    script.write(1, 0, 'old');
    const sync = script.sync(1);
    const late = script.write(1, 0, 'new');
    t.same(left(script, has()), { '/f': 'old' });
    t.same(left(script, has(late)), { '/f': 'new' });
    t.same(left(script, has(), sync.end - 1), { '/f': '' }, 'a sync under way promises nothing');
    t.end();
});
t.test('a write that began before a sync and ended behind its begin is not covered', (t) => {
    const script = new Script();
    script.create('/f', 1);
    script.syncDirectory('/');
    const write = script.write(1, 0, 'x');
    const sync = script.sync(1);
    [write.end, sync.begin] = [sync.begin, write.end];
    t.same(left(script, has()), { '/f': '' });
    t.end();
});
t.test('sectors arrive one by one, each as it once was in memory', (t) => {
    const script = new Script();
    script.create('/f', 1);
    script.syncDirectory('/');
    const first = script.write(1, 0, 'a'.repeat(1024));
    const second = script.write(1, 256, 'b'.repeat(512));
    const sectors = (...kept) => ({
        ...has(),
        hasSize: () => true,
        hasSector: (operation, sector) => kept.some(([each, number]) => each === operation && number === sector),
    });
    const quarter = (letter) => letter.repeat(256);
    const expect = (...letters) => ({ '/f': letters.map(quarter).join('') });
    t.same(left(script, sectors()), expect('.', '.', '.', '.'), 'a size without data reads as zero');
    t.same(left(script, sectors([first, 1])), expect('.', '.', 'a', 'a'));
    t.same(left(script, sectors([first, 0], [first, 1])), expect('a', 'a', 'a', 'a'));
    t.same(left(script, sectors([second, 0])), expect('a', 'b', '.', '.'), 'the page had both writes');
    t.end();
});
t.test('sizes change in their order, and cut what lies behind them', (t) => {
    const script = new Script();
    script.create('/f', 1);
    script.syncDirectory('/');
    script.write(1, 0, 'abcdef');
    script.sync(1);
    const cut = script.truncate(1, 3);
    const grown = script.truncate(1, 6);
    t.same(left(script, has()), { '/f': 'abcdef' });
    t.same(left(script, has(cut)), { '/f': 'abc' });
    t.same(left(script, has(grown)), { '/f': 'abc...' }, 'with the later one the earlier one is there');
    script.sync(1);
    t.same(left(script, has()), { '/f': 'abc...' });
    t.end();
});
t.test('what a failed sync covered may be lost for ever', (t) => {
    const script = new Script();
    script.create('/f', 1);
    script.syncDirectory('/');
    const lost = script.write(1, 0, 'lost');
    script.sync(1, 5);
    script.write(1, 600, 'kept');
    script.sync(1);
    t.equal(left(script, has())['/f']?.replaceAll('.', ''), 'kept');
    t.equal(left(script, has(lost))['/f']?.replaceAll('.', ''), 'lostkept');
    t.end();
});
t.test('names need their directory synced; a rename is there as a whole or not at all', (t) => {
    const script = new Script();
    script.mkdir('/d');
    script.syncDirectory('/');
    script.create('/d/x', 1);
    script.write(1, 0, 'old');
    script.sync(1);
    t.same(left(script, has()), {}, 'a synced file without a synced name');
    script.syncDirectory('/d');
    const created = script.create('/d/x.tmp', 2);
    script.write(2, 0, 'new');
    const sync = script.sync(2);
    const renamed = script.rename('/d/x.tmp', '/d/x');
    t.same(left(script, has()), { '/d/x': 'old' });
    t.same(left(script, has(created)), { '/d/x': 'old', '/d/x.tmp': 'new' });
    t.same(left(script, has(renamed)), { '/d/x': 'new' });
    t.same(left(script, has(created), sync.begin), { '/d/x': 'old', '/d/x.tmp': '' });
    script.syncDirectory('/d');
    const unlinked = script.unlink('/d/x');
    t.same(left(script, has()), { '/d/x': 'new' });
    t.same(left(script, has(unlinked)), {});
    t.end();
});
t.test('nothing lies in a directory that is not there', (t) => {
    const script = new Script();
    const made = script.mkdir('/d');
    script.create('/d/x', 1);
    script.syncDirectory('/d');
    t.same(left(script, has()), {});
    t.same(left(script, has(made)), { '/d/x': '' });
    t.end();
});
t.test('a seed makes the same state again, and every kind makes some', (t) => {
    const script = new Script();
    script.create('/f', 1);
    script.syncDirectory('/');
    for (let sector = 0; sector < 8; sector += 1)
        script.write(1, sector * 512, String(sector).repeat(512));
    script.create('/g', 2);
    script.write(2, 0, 'g'.repeat(2048));
    const disk = new Disk(script.operations);
    disk.advance(Infinity);
    const state = (kind, seed) => {
        const { files } = disk.choose(sampleState(disk, kind, pseudorandom(seed)));
        return files.map((file) => `${file.path} ${file.content().toString()}`).join('\n');
    };
    for (const kind of SAMPLE_KINDS) {
        const states = Array.from({ length: 40 }, (_, seed) => state(kind, seed));
        t.same(states, Array.from({ length: 40 }, (_, seed) => state(kind, seed)), `${kind}: repeated`);
        const isOne = kind === 'none' || kind === 'all' || kind === 'namesOnly' || kind === 'contentsOnly';
        t.ok(isOne ? new Set(states).size === 1 : new Set(states).size > 2, `${kind}: ${new Set(states).size} states`);
    }
    t.end();
});
//# sourceMappingURL=disk.test.js.map