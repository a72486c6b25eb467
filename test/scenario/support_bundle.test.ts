/** What goes to somebody who helps: all that they want to see, and nothing that they must not. */
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { command } from './command.js';
import { afterimage, freePort } from './site.js';
import { socketSite, writePattern } from './socket_site.js';

t.test('an archive of both daemons', async (t) => {
  const port = await freePort();
  const options = { group: 'shop', agentLines: [`metrics = "127.0.0.1:${port}"`] };
  const { site, uri } = await socketSite(t, 'bundle', 8 << 20, options);
  await writePattern(uri, '0x5a');
  await site.settled();
  const archive = site.scratch.path('out.tar.gz');
  const configs = ['agent', 'receiver'].flatMap((name) => [
    `--${name}-config`,
    site.scratch.path(`${name}.toml`),
  ]);
  const env = { ...process.env, AFTERIMAGE_RUN_DIR: site.scratch.path('run') };
  const { stdout } = await afterimage(['support-bundle', '--to', archive, ...configs, '--json'], [], env);
  const { files } = JSON.parse(stdout) as { files: string[] };
  t.equal((await stat(archive)).mode & 0o777, 0o600);
  await command('tar', ['-C', site.scratch.path(), '-xzf', archive]);
  const root = site.scratch.path('out');
  const found = (await readdir(root, { recursive: true, withFileTypes: true })).filter((entry) =>
    entry.isFile(),
  );
  t.equal(found.length, files.length);
  const text = (name: string): Promise<string> => readFile(path.join(root, name), 'utf8');
  const status = JSON.parse(await text('status.json')) as { agent: unknown; receiver: unknown };
  t.ok(status.agent !== null && status.receiver !== null);
  t.match(await text('agent.toml'), /name = "shop"/);
  t.match(await text('identity.json'), /"kind": "host"/);
  t.match(await text('agent-metrics.txt'), /^afterimage_agent_info/m);
  t.match(await text('system/uname.txt'), /^Linux /);
  t.match(await text('audit.json'), /"faults":\[\]/);
  const everything = (await Promise.all(files.map(text))).join('\n');
  t.notMatch(everything, /PRIVATE KEY/);
  const { key } = JSON.parse(await readFile(site.scratch.path('state', 'identity.json'), 'utf8')) as {
    key: string;
  };
  t.notOk(everything.includes(key.split('\n')[1] ?? ''), 'no key, in whatever words');
  t.notOk(everything.includes('ZZZZZZZZ'), 'nothing of what was written');
});

t.test('where nothing runs it says what it could not have', async (t) => {
  const directory = t.testdir();
  const env = { ...process.env, AFTERIMAGE_RUN_DIR: directory };
  const archive = path.join(directory, 'none.tar.gz');
  await afterimage(
    ['support-bundle', '--to', archive, '--agent-config', path.join(directory, 'none.toml')],
    [],
    env,
  );
  await command('tar', ['-C', directory, '-xzf', archive]);
  t.match(await readFile(path.join(directory, 'none', 'status.json'), 'utf8'), /DAEMON_UNREACHABLE/);
  t.match(await readFile(path.join(directory, 'none', 'agent.toml'), 'utf8'), /ENOENT/);
  const { stderr } = await afterimage(['support-bundle', '--to', path.join(directory, 'x.zip')], [2], env);
  t.match(stderr, /USAGE/);
});
