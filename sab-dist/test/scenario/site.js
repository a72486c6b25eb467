/** A receiver and an agent on this machine, with their configurations in a scratch directory. */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { command } from './command.js';
import { CLI, Daemon } from './daemon.js';
export class Site {
    scratch;
    receiver;
    agent;
    receiverControl;
    agentControl;
    group;
    store;
    agentState;
    listen;
    constructor(scratch, receiver, agent, receiverControl, agentControl, group, store, agentState, listen) {
        this.scratch = scratch;
        this.receiver = receiver;
        this.agent = agent;
        this.receiverControl = receiverControl;
        this.agentControl = agentControl;
        this.group = group;
        this.store = store;
        this.agentState = agentState;
        this.listen = listen;
    }
    /** Writes the configurations and makes the store; starts nothing. */
    static async create(scratch, options) {
        const listen = `127.0.0.1:${await freePort()}`;
        const run = scratch.path('run');
        const store = options.store ?? scratch.path('store');
        await mkdir(run, { mode: 0o700 });
        const receiverConfig = scratch.path('receiver.toml');
        await writeFile(receiverConfig, `store = "${store}"\nlisten = "${listen}"\nrun_dir = "${run}"\nsegment_bytes = "${options.segmentBytes ?? '64MiB'}"\n${options.receiver ?? ''}\n`);
        const agentConfig = scratch.path('agent.toml');
        const address = options.via === undefined ? listen : await options.via(listen);
        await writeFile(agentConfig, agentToml(scratch, run, address, options));
        await afterimage(['receiver', 'init', '--store', store]);
        const env = options.env;
        const daemon = (name, config) => new Daemon({
            name,
            config,
            control: `${run}/${name}.sock`,
            log: scratch.path(`${name}.log`),
            supervised: name === 'agent' && options.supervised === true,
            ...(env === undefined ? {} : { env }),
        });
        const receiver = daemon('receiver', receiverConfig);
        const agent = daemon('agent', agentConfig);
        const site = new Site(scratch, receiver, agent, `${run}/receiver.sock`, `${run}/agent.sock`, options.group, store, options.state ?? scratch.path('state'), listen);
        scratch.defer('receiver', () => receiver.end());
        scratch.defer('agent', () => agent.end());
        return site;
    }
    /** Within `secondsMax` each. */
    async start(secondsMax = 30) {
        await this.receiver.start(secondsMax);
        await this.agent.start(secondsMax);
    }
    /** Runs `afterimage … --json` against the receiver and parses what it printed. */
    async ask(...args) {
        const result = await afterimage([...args, '--control', this.receiverControl, '--json']);
        return JSON.parse(result.stdout);
    }
    /** What a volume held at a point: recovered to a file, and read. */
    async recovered(volume, point) {
        const file = this.scratch.path(`recovered-${volume}.img`);
        await rm(file, { force: true });
        await this.ask('recover', `${this.group}/${volume}`, '--at', point, '--to', file);
        return readFile(file);
    }
    async agentGroup() {
        const result = await afterimage(['status', '--control', this.agentControl, '--json']);
        return groupOf(JSON.parse(result.stdout), 'agent', this.group);
    }
    async receiverGroup() {
        return groupOf(await this.ask('status'), 'receiver', this.group);
    }
    /** Waits until the agent says that the group is protected and nothing is left to acknowledge. */
    async settled(secondsMax = 120) {
        return this.waitFor('protected and acknowledged', secondsMax, (group) => {
            return group.state === 'protected' && group.durableLsn === group.capturedLsn;
        });
    }
    async waitFor(what, secondsMax, is) {
        const deadline = Date.now() + secondsMax * 1000;
        for (;;) {
            const group = await this.agentGroup();
            if (is(group))
                return group;
            if (Date.now() > deadline) {
                const tails = `${await this.agent.tail()}\n${await this.receiver.tail()}`;
                throw new Error(`not ${what} after ${secondsMax} s: ${JSON.stringify(group)}\n${tails}`);
            }
            await sleep(100);
        }
    }
}
function agentToml(scratch, run, receiver, options) {
    const lines = [
        `receiver = "${receiver}"`,
        `state_dir = "${options.state ?? scratch.path('state')}"`,
        `run_dir = "${run}"`,
        '[[group]]',
        `name = "${options.group}"`,
        `ring_bytes = "${options.ringBytes ?? '256MiB'}"`,
    ];
    for (const volume of options.volumes) {
        lines.push('[[group.volume]]', `name = "${volume.name}"`, `backing = "${volume.backing}"`);
        lines.push(`attach = "${volume.attach}"`, `cache = "${volume.cache ?? 'buffered'}"`);
    }
    return `${lines.join('\n')}\n`;
}
/** The address of a volume that is attached as a socket. */
export function nbdUri(group, index = 0) {
    return `nbd+unix:///?socket=${(group.volumes[index]?.device ?? '').replace(/^unix:/, '')}`;
}
/** `afterimage status --json` prints { agent: …, receiver: … }, either null when it does not run here. */
export function groupOf(status, daemon, name) {
    const report = status[daemon];
    const group = report?.groups.find((one) => one.name === name);
    if (group === undefined)
        throw new Error(`the ${daemon} does not know group ${name}: ${JSON.stringify(status)}`);
    return group;
}
export function afterimage(args, accept = []) {
    return command(process.execPath, [CLI, ...args], { accept });
}
async function freePort() {
    const server = net.createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address();
    await new Promise((resolve) => server.close(resolve));
    return port;
}
//# sourceMappingURL=site.js.map