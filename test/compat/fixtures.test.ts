/**
 * What every version before has left must go on being read: its store, and what its agent says. `fixtures/VERSION/` has a store, a
 * session as it was sent, and what points of both held. AFTERIMAGE_MAKE_FIXTURE=1 makes that of the present version, once, before
 * it is released; what is there is never made again.
 */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { Client, credentials, type ClientDuplexStream } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { MESSAGE_BYTES_MAX, replicationService, type ReceiverMessage } from '../../proto/replication.js';
import { command } from '../scenario/command.js';
import { newIdentity } from '../receiver/scripted_agent.js';
import { RunningReceiver } from '../receiver/running_receiver.js';
import { join as synced, recovered } from '../receiver/synced_scene.js';

const FIXTURES = path.resolve('test/compat/fixtures');
const MIB = 1024 * 1024;

type Step = { write: string } | { hear: string };
interface Expected {
  /** SHA-256 of the volume, by point. */
  points: Record<string, string>;
  grades: string[];
  checkpoints: string[];
}

const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

async function make(test: Test, directory: string): Promise<void> {
  const steps: Step[] = [];
  const onStep = (step: { write: Buffer } | { hear: string }): void =>
    void steps.push('write' in step ? { write: step.write.toString('base64') } : step);
  const receiver = await RunningReceiver.start(test);
  const scene = await synced(test, receiver, newIdentity(), 'db1', 'data', 'db', null, {
    size: 2 * MIB,
    onStep,
  });
  const { agent, stream } = scene;
  const lsns: bigint[] = [];
  for (let at = 0; at < 24; at += 1)
    lsns.push(await agent.write((at % 60) * 32 * 1024, randomBytes(512 * (1 + (at % 7)))));
  const last = lsns.at(-1) ?? 0n;
  for (const frame of await agent.framesUpTo(last)) stream.ship(frame);
  await stream.hearAck(last);
  const { lsn, timeNs } = agent.position();
  stream.say({ checkpoint: { requestId: 'a', name: 'noon', lsn, timeNs } });
  await stream.hear('checkpointDone');
  const points: Record<string, string> = {};
  for (const lsn of [...lsns.filter((_, at) => at % 5 === 0), last])
    points[`lsn:${lsn}`] = sha256(await recovered(scene, `lsn:${lsn}`));
  points['checkpoint:noon'] = points[`lsn:${last}`] ?? '';
  const { spans, checkpoints } = await receiver.call('timeline', { group: 'db' });
  const expected: Expected = {
    points,
    grades: spans.map(({ grade, generation }) => `${grade} ${generation}`),
    checkpoints: checkpoints.map(({ name }) => name),
  };
  stream.close();
  await receiver.stop();
  mkdirSync(directory, { recursive: true });
  const files = [
    '--sparse',
    '-C',
    receiver.directory,
    '--exclude=lock',
    '--exclude=reserve',
    '-czf',
    path.join(directory, 'store.tar.gz'),
    'store',
  ];
  await command('tar', files);
  writeFileSync(path.join(directory, 'session.json.gz'), gzipSync(JSON.stringify(steps)));
  writeFileSync(path.join(directory, 'expected.json'), `${JSON.stringify(expected, null, 2)}\n`);
}

async function judge(test: Test, receiver: RunningReceiver, expected: Expected): Promise<void> {
  for (const [point, sum] of Object.entries(expected.points))
    test.equal(sha256(await recovered({ receiver }, point)), sum, point);
  const { spans, checkpoints } = await receiver.call('timeline', { group: 'db' });
  test.same(
    spans.map(({ grade, generation }) => `${grade} ${generation}`),
    expected.grades,
  );
  test.same(
    checkpoints.map(({ name }) => name),
    expected.checkpoints,
  );
}

/** Says what was said, in its order, waiting for what was waited for. */
async function replay(test: Test, address: string, steps: readonly Step[]): Promise<void> {
  const client = new Client(address, credentials.createInsecure(), {
    'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
  });
  test.teardown(() => client.close());
  const { path: method, responseDeserialize } = replicationService.session;
  const stream: ClientDuplexStream<Buffer, ReceiverMessage> = client.makeBidiStreamRequest(
    method,
    (bytes: Buffer) => bytes,
    responseDeserialize,
  );
  const heard: ReceiverMessage[] = [];
  let wake = (): void => undefined;
  stream.on('data', (message: ReceiverMessage) => {
    heard.push(message);
    wake();
  });
  stream.on('error', (error) => test.comment(error.message));
  for (const step of steps) {
    if ('write' in step) {
      stream.write(Buffer.from(step.write, 'base64'));
      continue;
    }
    for (;;) {
      const at = heard.findIndex((message) => step.hear in message);
      const refused = heard.find((message) => 'refused' in message);
      if (refused !== undefined)
        throw new Error(
          `refused: ${JSON.stringify(refused, (_, value: unknown) => (typeof value === 'bigint' ? value.toString() : value))}`,
        );
      if (at >= 0) {
        heard.splice(0, at + 1);
        break;
      }
      await new Promise<void>((resolve) => (wake = resolve));
    }
  }
  stream.cancel();
}

if (process.env['AFTERIMAGE_MAKE_FIXTURE'] !== undefined) {
  t.test(`what ${version} leaves`, async (t) => {
    const directory = path.join(FIXTURES, version);
    if (existsSync(directory)) throw new Error(`${directory} is there: what was released is not made again`);
    await make(t, directory);
  });
}

const versions = existsSync(FIXTURES) ? readdirSync(FIXTURES) : [];
t.ok(versions.includes(version), `fixtures of ${version} are there`);
for (const one of versions) {
  const directory = path.join(FIXTURES, one);
  const expected = JSON.parse(readFileSync(path.join(directory, 'expected.json'), 'utf8')) as Expected;

  t.test(`a store of ${one}`, async (t) => {
    const receiver = await RunningReceiver.prepare(t);
    await mkdir(receiver.directory, { recursive: true });
    await command('tar', ['-C', receiver.directory, '-xzf', path.join(directory, 'store.tar.gz')]);
    await receiver.run();
    await judge(t, receiver, expected);
    await receiver.stop();
    await receiver.run();
    await judge(t, receiver, expected);
  });

  t.test(`an agent of ${one}`, async (t) => {
    const receiver = await RunningReceiver.start(t);
    const steps = JSON.parse(
      gunzipSync(await readFile(path.join(directory, 'session.json.gz'))).toString(),
    ) as Step[];
    await replay(t, receiver.address, steps);
    await judge(t, receiver, expected);
  });
}
