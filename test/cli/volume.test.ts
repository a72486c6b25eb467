import t, { type Test } from 'tap';
import type { InsertionRequest } from '../../cli/daemons.js';
import { AfterimageError } from '../../proto/errors.js';
import { cannedAgent, invoke, noDaemons, Recorder, temporary } from './canned.js';

const DEVICES = ['/dev/mapper/vg-data', '/dev/mapper/vg-log'];

async function scene(t: Test) {
  const runDir = await temporary(t);
  const requests: [verb: string, request: InsertionRequest][] = [];
  const answer = (verb: string) => (request: InsertionRequest) => {
    requests.push([verb, request]);
    return Promise.resolve(DEVICES);
  };
  const daemons = {
    ...noDaemons,
    insertVolumes: answer('insert'),
    removeVolumes: answer('remove'),
  };
  const run = (words: string[], ask: ((question: string) => Promise<boolean>) | null = null) =>
    invoke(runDir, ['volume', ...words], { daemons, ask });
  return { runDir, requests, run };
}

t.test('insert', async (t) => {
  const { run, requests, runDir } = await scene(t);
  const plain = await run(['insert', 'shop']);
  t.equal(plain.status, 0, plain.stderr);
  t.match(plain.stdout, /^protection is under \/dev\/mapper\/vg-data, \/dev\/mapper\/vg-log/);
  const json = await run(['insert', 'shop/data', '--json', '--config', 'a.toml', '--control', 'a.sock']);
  t.same(JSON.parse(json.stdout), { group: 'shop', inserted: DEVICES });
  t.match(requests, [
    ['insert', { config: '/etc/afterimage/agent.toml', subject: { group: 'shop', volume: '' } }],
    ['insert', { config: `${runDir}/a.toml`, subject: { group: 'shop', volume: 'data' } }],
  ]);
  t.equal((await run(['insert', 'a/b/c'])).status, 2);
});

t.test('remove asks, or takes --yes', async (t) => {
  const { run, requests } = await scene(t);
  const mute = await run(['remove', 'shop']);
  t.equal(mute.status, 2);
  t.match(mute.stderr, /compares all of it: say --yes/);
  const refused = await run(['remove', 'shop'], () => Promise.resolve(false));
  t.equal(refused.status, 130);
  t.equal((await run(['remove', 'shop', '--json'], () => Promise.resolve(true))).status, 2);
  t.equal(requests.length, 0, 'nothing was done');

  let asked = '';
  const agreed = await run(['remove', 'shop'], (question) => {
    asked = question;
    return Promise.resolve(true);
  });
  t.equal(agreed.status, 0, agreed.stderr);
  t.match(asked, /shop/);
  const json = await run(['remove', 'shop', '--yes', '--json']);
  t.same(JSON.parse(json.stdout), { group: 'shop', removed: DEVICES });
  t.equal(requests.length, 2);
});

t.test('what it asks of the agent', async (t) => {
  const { run, requests, runDir } = await scene(t);
  const asked = await cannedAgent(t, runDir);
  await run(['remove', 'shop', '--yes']);
  const agent = requests[0]?.[1].agent;
  t.equal((await agent?.status())?.host, 'host1');
  t.equal((await agent?.insert('shop'))?.name, 'db');
  await agent?.release('shop');
  t.same(asked, [
    ['volumesInsert', { group: 'shop' }],
    ['volumesRelease', { group: 'shop' }],
  ]);
});

t.test('a failure says what happened and what to do', async (t) => {
  const runDir = await temporary(t);
  const insertVolumes = () => Promise.reject(new AfterimageError('MAPPER_TABLE', '/dev/mapper/x has crypt'));
  const ended = await invoke(runDir, ['volume', 'insert', 'shop'], {
    daemons: { ...noDaemons, insertVolumes },
    stderr: new Recorder(false),
  });
  t.equal(ended.status, 4);
  t.match(ended.stderr, /error MAPPER_TABLE: \/dev\/mapper\/x has crypt/);
});
