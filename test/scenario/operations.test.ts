/**
 * docs/OPERATIONS.md, as somebody who is woken would type it: each of its commands is run, here, or on a whole host where it takes
 * systemd, a package or a device mapper. What a unit would do for a daemon is done here by hand.
 */
import { existsSync, readFileSync } from 'node:fs';
import { chmod, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { isRoot, skipUnless } from '../prerequisite.js';
import { command } from './command.js';
import { CLI } from './daemon.js';
import { Scratch } from './scratch.js';
import { Site } from './site.js';
import { until } from './until.js';

t.setTimeout(300_000);

const SETTLED_MS = 3_000;
const PAGE = 'docs/OPERATIONS.md';
const HOST = 'test/host/guest/scenario.ts';
const INSERTION = 'test/vm/guest/insertion.ts';

/** Where commands run that do not run here, and the words in that file that do it. */
const ELSEWHERE: readonly [line: RegExp, file: string, words: RegExp][] = [
  [/^dpkg -i afterimage_0\.1\.0/, 'test/host/guest/run', /dpkg .*afterimage\.deb/],
  [/^dpkg -i afterimage_0\.1\.1/, HOST, /'dpkg',.*'-i', `\$\{HERE\}\/newer\.deb`/],
  [/^afterimage receiver init$/, HOST, /'afterimage', 'receiver', 'init'/],
  [
    /^systemctl enable --now afterimage-receiver$/,
    HOST,
    /'systemctl', 'enable', '--now', 'afterimage-receiver'/,
  ],
  [/^systemctl enable --now afterimage-agent$/, HOST, /'systemctl', 'enable', '--now', 'afterimage-agent'/],
  [/^(mkdir -p|printf) .*afterimage-receiver\.service\.d/, HOST, /afterimage-receiver\.service\.d/],
  [/^systemctl daemon-reload$/, HOST, /'systemctl', 'daemon-reload'/],
  [/^systemctl reload afterimage-agent$/, HOST, /'systemctl', 'reload', 'afterimage-agent'/],
  [/^systemctl reload afterimage-receiver$/, HOST, /'systemctl', 'reload', 'afterimage-receiver'/],
  [
    /^systemctl kill --kill-whom=main -s SIGUSR2 afterimage-agent$/,
    HOST,
    /systemctl kill --kill-whom=main -s SIGUSR2 afterimage-agent/,
  ],
  [/^systemctl status afterimage-agent$/, HOST, /'systemctl', 'status', .*'afterimage-agent'/],
  [/^journalctl -u afterimage-agent$/, HOST, /'journalctl', .*'-u', 'afterimage-agent'/],
  [/^journalctl -u afterimage-receiver$/, HOST, /'journalctl', .*'-u', 'afterimage-receiver'/],
  [/^afterimage agent join backup\.example\.org:7443 -$/, HOST, /afterimage agent join 127\.0\.0\.1:7443 -/],
  [/^umount \/srv\/data$/, HOST, /'umount', MOUNT/],
  [/^mount \/srv\/data$/, HOST, /'mount', MOUNT/],
  [/^afterimage volume insert erp$/, INSERTION, /verb\(site, 'insert'/],
  [/^afterimage volume remove erp$/, INSERTION, /verb\(site, 'remove'/],
];

interface Documented {
  heading: string;
  line: string;
}

/** In their order, also those within text, without what is said about them. */
function documented(): Documented[] {
  const found: Documented[] = [];
  let heading = '';
  let [isCode, isShell] = [false, false];
  for (const line of readFileSync(PAGE, 'utf8')
    .replace(/`([^`\n]*)\n([^`\n]*)`/g, '`$1 $2`')
    .split('\n')) {
    if (line.startsWith('```')) {
      isCode = !isCode;
      isShell = isCode && line === '```sh';
    } else if (isShell) found.push({ heading, line: line.replace(/ +# .*$/, '').trim() });
    else if (!isCode && line.startsWith('#')) heading = line.replace(/^#+ /, '');
    else if (!isCode) {
      const spans = [...line.matchAll(/`((?:afterimage|systemctl|journalctl|dpkg|iostat) [^`]+)`/g)];
      for (const [, span = ''] of spans) found.push({ heading, line: span });
    }
  }
  return found.filter(({ line }) => line !== '');
}

/** One receiver, one host, one volume, and a shell in which `afterimage` is this build's. */
class Desk {
  private constructor(
    readonly scratch: Scratch,
    readonly site: Site,
    private readonly environment: NodeJS.ProcessEnv,
  ) {}

  static async set(t: Test): Promise<Desk> {
    const scratch = await Scratch.create('operations');
    t.teardown(() => scratch.clean());
    const backing = scratch.path('volume.img');
    await command('truncate', ['-s', '16M', backing]);
    await command('mkfs.ext4', ['-q', '-F', backing]);
    const volumes = [{ name: 'data', backing, attach: 'loop' as const }];
    const site = await Site.create(scratch, { group: 'shop', volumes });
    await site.start();
    await site.settled();
    const bin = scratch.path('bin');
    await mkdir(bin);
    await writeFile(path.join(bin, 'afterimage'), `#!/bin/sh\nexec "${process.execPath}" "${CLI}" "$@"\n`);
    await chmod(path.join(bin, 'afterimage'), 0o755);
    const environment = {
      ...process.env,
      PATH: `${bin}:${process.env['PATH']}`,
      AFTERIMAGE_RUN_DIR: path.dirname(site.agentControl),
      HOME: scratch.directory,
    };
    return new Desk(scratch, site, environment);
  }

  /** Types a line as it is, and gives what it says. */
  async type(line: string): Promise<string> {
    const { scratch, environment } = this;
    const { stdout } = await command('bash', ['-c', line], {
      cwd: scratch.directory,
      env: environment,
      secondsMax: 120,
    });
    return stdout;
  }

  /** Joins anew, with a token that was typed for. */
  async join(token: string, ...flags: string[]): Promise<void> {
    const file = this.scratch.path('token');
    await writeFile(file, token);
    await this.type(
      `afterimage agent join ${this.site.listen} - --config ${this.scratch.path('agent.toml')} ${flags.join(' ')} < ${file}`,
    );
  }
}

type Procedure = (desk: Desk, lines: string[]) => Promise<void>;

/** Takes the next line off `lines`, which is documented to be that one. */
function next(t: Test, lines: string[], expected: RegExp): string {
  const line = lines.shift() ?? '';
  t.match(line, expected, `typed: ${line}`);
  return line;
}

/** By heading, in the order in which they are played. */
function procedures(t: Test): Record<string, Procedure> {
  return {
    'A receiver': async (desk, lines) => {
      await desk.type(next(t, lines, /^afterimage status$/));
    },
    Join: async (desk, lines) => {
      const token = await desk.type(next(t, lines, /^afterimage receiver token create --host db1$/));
      t.match(token, /^\S{40,}\n$/);
      t.match(
        await desk.type(next(t, lines, /^afterimage receiver authority$/)),
        /^SHA-256 (?:[0-9A-F]{2}:){31}/,
      );
    },
    'Protect a volume': async (desk, lines) => {
      t.match(await desk.type(next(t, lines, /^afterimage status$/)), /shop .*protected/);
    },
    'Protect a logical volume that is in use': async (desk, lines) => {
      await desk.type(next(t, lines, /^afterimage status$/));
    },
    'Size a receiver': async (desk, lines) => {
      const rate = next(t, lines, /^iostat -d 3600$/).replace('3600', '1 1'); // an hour less long
      t.match(await desk.type(rate), /kB_wrtn\/s/);
      t.match(await desk.type(next(t, lines, /^afterimage status$/)), /WINDOW|HELD/i);
    },
    'Go back to a point': async (desk, lines) => {
      await desk.type('afterimage checkpoint create shop before-upgrade');
      const now = new Date().toISOString();
      // A point is what the receiver knows of already.
      await sleep(SETTLED_MS);
      t.match(await desk.type(next(t, lines, /^afterimage timeline shop$/)), /ordered/);
      const exported = next(t, lines, /^afterimage export shop --at \S+Z --writable --device$/);
      const { id } = JSON.parse(await desk.type(`${exported.replace(/\d{4}-\S+Z/, now)} --json`)) as {
        id: string;
      };
      await desk.type(`afterimage export close ${id}`);
      const recover = next(
        t,
        lines,
        /^afterimage recover shop\/data --at checkpoint:before-upgrade --to \/dev\/vg\/new --yes$/,
      );
      const file = desk.scratch.path('new');
      await desk.type(recover.replace('/dev/vg/new', file));
      t.equal((await stat(file)).size, 16 << 20);
    },
    'Replace a host': async (desk, lines) => {
      const revoke = next(t, lines, /^afterimage receiver host revoke db1 --yes$/);
      await desk.type(revoke.replace('db1', hostname()));
      await until('cut off', async () => (await desk.site.agentGroup()).state === 'disconnected');
      const create = next(t, lines, /^afterimage receiver token create --host db1$/);
      const token = await desk.type(create.replace('db1', hostname()));
      const recover = next(t, lines, /^afterimage recover$/);
      await desk.type(`${recover} shop/data --at latest --to ${desk.scratch.path('replaced')}`);
      await desk.join(token);
      await desk.site.settled();
    },
    'Move a receiver': async (desk, lines) => {
      next(t, lines, /^systemctl stop afterimage-receiver$/);
      await desk.site.receiver.end();
      const { store } = desk.site;
      const moved = desk.scratch.path('moved');
      const copy = next(
        t,
        lines,
        /^rsync -aHS \/var\/lib\/afterimage\/store\/ new:\/var\/lib\/afterimage\/store\/$/,
      );
      await desk.type(
        copy
          .replace('new:/var/lib/afterimage/store/', `${moved}/`)
          .replace('/var/lib/afterimage/store', store),
      );
      const config = desk.scratch.path('receiver.toml');
      await writeFile(
        config,
        (await readFile(config, 'utf8')).replace(`store = "${store}"`, `store = "${moved}"`),
      );
      await rm(store, { recursive: true });
      await desk.site.receiver.start();
      await desk.site.settled();
    },
    "The authority's key is lost": async (desk, lines) => {
      next(t, lines, /^systemctl stop afterimage-receiver$/);
      await desk.site.receiver.end();
      const init = next(t, lines, /^afterimage receiver init --new-authority$/);
      await desk.type(`${init} --yes --store ${desk.scratch.path('moved')}`);
      next(t, lines, /^systemctl start afterimage-receiver$/);
      await desk.site.receiver.start();
      await until('refused', async () => /AUTHORITY_MISMATCH/.test((await desk.site.agentGroup()).detail));
      await desk.join(await desk.type(`afterimage receiver token create --host ${hostname()}`), '--yes');
      await desk.site.settled();
    },
    'The disk of the receiver is full': async (desk, lines) => {
      t.match(await desk.type(next(t, lines, /^afterimage status$/)), /shop/);
      await desk.type(next(t, lines, /^afterimage export list$/));
      t.match(await desk.type(next(t, lines, /^afterimage checkpoint list$/)), /before-upgrade/);
    },
    'Something is wrong and nobody knows what': async (desk, lines) => {
      const { scratch } = desk;
      const configs = `--agent-config ${scratch.path('agent.toml')} --receiver-config ${scratch.path('receiver.toml')}`;
      const said = await desk.type(`${next(t, lines, /^afterimage support-bundle$/)} ${configs}`);
      const file = /\S+\.tar\.gz/.exec(said)?.[0] ?? '';
      t.ok(existsSync(path.resolve(scratch.directory, file)), said);
      const fsck = next(t, lines, /^afterimage receiver fsck$/);
      t.match(await desk.type(next(t, lines, /^afterimage verify shop$/)), /equal|differ/);
      await desk.site.receiver.end();
      await desk.type(`${fsck} ${scratch.path('moved')}`);
      await desk.site.receiver.start();
      await desk.site.settled();
    },
    AfterimageNotProtected: async (desk, lines) => {
      await desk.type(next(t, lines, /^afterimage status$/));
    },
    AfterimageDamage: async (desk, lines) => {
      await desk.type(next(t, lines, /^afterimage timeline GROUP$/).replace('GROUP', 'shop'));
    },
    AfterimageScrubOverdue: async (desk, lines) => {
      await desk.type(next(t, lines, /^afterimage receiver scrub GROUP$/).replace('GROUP', 'shop'));
    },
    AfterimageIntrusion: async (desk, lines) => {
      t.match(await desk.type(next(t, lines, /^afterimage audit$/)), /receiver token create/);
    },
  };
}

t.test('every command that is documented runs', { skip: skipUnless(isRoot, 'root') }, async (t) => {
  const here = new Map<string, string[]>();
  for (const { heading, line } of documented()) {
    const elsewhere = ELSEWHERE.find(([pattern]) => pattern.test(line));
    if (elsewhere === undefined) here.set(heading, [...(here.get(heading) ?? []), line]);
    else {
      const [, file, words] = elsewhere;
      t.ok(words.test(readFileSync(file, 'utf8')), `${line}: by ${file}`);
    }
  }
  const desk = await Desk.set(t);
  const played = procedures(t);
  for (const [heading, lines] of here) {
    const play = played[heading];
    if (play === undefined) {
      t.fail(`${heading}: nobody runs ${lines.join('; ')}`);
      continue;
    }
    await play(desk, lines);
    t.same(lines, [], `${heading}: to its end`);
  }
});
