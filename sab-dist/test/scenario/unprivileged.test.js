/**
 * A user without root: with `attach = "socket"` and exports on sockets everything works, and what needs root is refused
 * with a code. Run as root, the test runs itself anew as another user.
 */
import { chown, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t, {} from 'tap';
import { isRoot, skipUnless } from '../prerequisite.js';
import { command } from './command.js';
import { CLI } from './daemon.js';
import { leftovers } from './leftovers.js';
import { Scratch } from './scratch.js';
import { afterimage } from './site.js';
import { socketSite, writePattern } from './socket_site.js';
t.setTimeout(600_000);
const NOBODY = 65534;
const GROUP = 'unprivileged';
const BYTES = 32 << 20;
const NEEDS_ROOT = /"code":"(FUSE_UNAVAILABLE|FUSE_MOUNT|PERMISSION_DENIED)"/;
const CHECKOUT = fileURLToPath(new URL('../../../', import.meta.url));
if (isRoot)
    await asNobody();
else
    t.test('a user without root protects a volume, rewinds it and recovers it', protect);
/** The checkout may lie where others cannot go: a bind mount leads there without the directories above it. */
async function asNobody() {
    const scratch = await Scratch.create('nobody');
    t.teardown(() => scratch.clean());
    const checkout = scratch.path('checkout');
    const home = scratch.path('home');
    for (const directory of [checkout, home])
        await mkdir(directory);
    await chown(home, NOBODY, NOBODY);
    await command('mount', ['-o', 'bind,ro', CHECKOUT, checkout]);
    scratch.defer('bind mount', () => command('umount', [checkout]));
    const inside = (file) => path.join(checkout, path.relative(CHECKOUT, file));
    const become = [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', process.execPath];
    const options = { cwd: home, env: { ...process.env, HOME: home, TMPDIR: home } };
    const check = await command('setpriv', [...become, inside(CLI), '--version'], {
        ...options,
        accept: [1, 126, 127],
    });
    if (check.status !== 0) {
        const needs = `a checkout that another user can run: ${check.stderr.trim().split('\n')[0]}`;
        t.pass('not run', { skip: skipUnless(false, needs) });
        return;
    }
    // NODE_OPTIONS: tap would have every process below note its end in the checkout.
    const anew = ['-u', 'NODE_OPTIONS', 'setpriv', ...become, inside(fileURLToPath(import.meta.url))];
    await t.spawn('env', anew, options, 'as another user');
    const left = (await readdir(home)).filter((name) => name !== '.tap');
    t.same(left, [], 'nothing is left in its home');
}
async function protect(t) {
    t.not(process.geteuid?.(), 0);
    const { site, backing, uri } = await socketSite(t, 'unprivileged', BYTES, { group: GROUP });
    const { scratch } = site;
    for (const socket of [site.agentControl, site.receiverControl])
        t.equal((await stat(socket)).mode & 0o777, 0o600, `${path.basename(socket)} is its owner's alone`);
    await writePattern(uri, '0x61', 1);
    await site.settled();
    const before = await readFile(backing);
    await site.ask('checkpoint', 'create', GROUP, 'before');
    await writePattern(uri, '0x62', 1);
    await site.settled();
    const at = ['--at', 'checkpoint:before'];
    for (const where of [[], ['--tcp', '127.0.0.1:0'], ['--socket', scratch.path('mine.sock'), '--writable']]) {
        const opened = await site.ask('export', GROUP, ...at, ...where);
        const copy = scratch.path('copy.img');
        await command('nbdcopy', [opened.volumes[0]?.uri ?? '', copy]);
        t.ok((await readFile(copy)).equals(before), `an export ${where.join(' ')} shows the point`);
        await site.ask('export', 'close', opened.id);
    }
    const file = scratch.path('recovered.img');
    await site.ask('recover', `${GROUP}/disk`, ...at, '--to', file);
    t.ok((await readFile(file)).equals(before), 'and so does a recovered file');
    const run = await readdir(scratch.path('run'));
    const asked = ['export', GROUP, ...at, '--device', '--control', site.receiverControl, '--json'];
    t.match(await refusal(asked), NEEDS_ROOT, 'an export as a device needs root');
    t.same(await site.ask('export', 'list'), { exports: [] });
    t.same(await readdir(scratch.path('run')), run, 'the refusal left nothing');
    t.equal(await site.agent.stop(), 0);
    const config = scratch.path('agent.toml');
    await writeFile(config, (await readFile(config, 'utf8')).replace('"socket"', '"loop"'));
    t.match(await refusal(['agent', 'run', '--config', config, '--json']), NEEDS_ROOT, 'and so does attach = "loop"');
    t.equal(await site.receiver.stop(), 0);
    const { processes, mounts, loops, sockets } = await leftovers(scratch.directory);
    t.same([processes, mounts, loops, sockets], [[], [], [], []], 'both end and leave nothing');
}
/** What a command that must fail says. */
async function refusal(args) {
    const { status, stderr } = await afterimage(args, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    if (status === 0)
        throw new Error(`not refused: ${args.join(' ')}`);
    return stderr;
}
//# sourceMappingURL=unprivileged.test.js.map