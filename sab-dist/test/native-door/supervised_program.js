/**
 * What the supervisor runs in its test: does what the words of its command line say, in the life of that number, and tells
 * on stdout what it found. LIFE:VERB[:ARGUMENT] …
 */
import { readFileSync, readSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import * as native from '../../native/index.js';
const inherited = native.takeStoredDescriptors();
const lifeOf = () => {
    const counter = inherited.find(({ name }) => name === 'test/life');
    if (counter === undefined)
        return 1;
    const text = Buffer.alloc(1);
    readSync(counter.descriptor, text, 0, 1, 0);
    return Number(text.toString()) + 1;
};
const life = lifeOf();
const say = (text) => void process.stdout.write(`${life} ${text}\n`);
const asleep = new AbortController();
const onStop = () => {
    say('SIGTERM');
    for (const { name } of inherited)
        native.forgetDescriptor(name);
    native.forgetDescriptor('test/life');
    process.exitCode = 5;
    process.off('SIGTERM', onStop);
    asleep.abort();
};
process.on('SIGTERM', onStop);
say(`inherits ${inherited.map(({ name }) => name).join(' ')}`);
const verbs = {
    /** Keeps a document that says which life wrote it. */
    keep: (name) => native.storeDescriptor(name, native.makeSealedMemory('test', Buffer.from(String(life)))),
    count: () => {
        native.forgetDescriptor('test/life');
        verbs['keep']?.('test/life');
    },
    forget: (name) => native.forgetDescriptor(name),
    barrier: () => native.awaitServiceManager(10_000),
    read: (name) => {
        const found = inherited.find((one) => one.name === name);
        say(found === undefined ? 'nothing' : readFileSync(`/proc/self/fd/${found.descriptor}`, 'utf8'));
    },
    flags: () => say(inherited
        .map(({ descriptor }) => /flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8'))?.[1])
        .every((flags) => (Number.parseInt(flags ?? '0', 8) & 0o2000000) !== 0)
        ? 'closed on exec'
        : 'left open on exec'),
    ready: () => native.tellServiceManager('READY=1'),
    say: (text) => say(text),
    sleep: (ms) => sleep(Number(ms), undefined, { signal: asleep.signal }).catch(() => undefined),
    /** Whoever wants it to stop waits. */
    ignore: () => process.removeAllListeners('SIGTERM').on('SIGTERM', () => undefined),
    die: () => process.kill(process.pid, 'SIGKILL'),
    exit: (status) => (process.exitCode = Number(status)),
};
for (const word of process.argv.slice(2)) {
    const [when, verb = '', argument = ''] = word.split('=');
    if (Number(when) === life)
        await verbs[verb]?.(argument);
}
//# sourceMappingURL=supervised_program.js.map