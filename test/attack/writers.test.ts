/** A host that was taken over: it may write to its own groups, and can neither write to others' nor take anything away. */
import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { accessService } from '../../proto/access.js';
import { receiverControlService } from '../../proto/control.js';
import type { Hello } from '../../proto/replication.js';
import { formatUuid } from '../../proto/uuid.js';
import type { Identity } from '../../service/identity.js';
import { newIdentity, ScriptedStream, type ScriptedAgent } from '../receiver/scripted_agent.js';
import { RunningReceiver } from '../receiver/running_receiver.js';
import { grades, join as synced, recovered, writeMore } from '../receiver/synced_scene.js';
import { clientOf, codeOf } from './client.js';

const LIMITS = { timeoutMs: 5000 };
const EXPORT = { writable: false, socket: '', tcp: '', device: false, volumes: [], force: false };

/** A host with a group that it has written, and another host. */
async function scene(t: Parameters<typeof synced>[0]) {
  const receiver = await RunningReceiver.start(t);
  const victim = await synced(
    t,
    receiver,
    newIdentity(),
    'db1',
    'data',
    'db',
    await receiver.join('host', 'db1'),
  );
  const attacker = await receiver.join('host', 'evil');
  /** What a Hello of the attacker's comes to. */
  const say = async (hello: Partial<Hello>, as: Identity | null = attacker): Promise<string> => {
    const stream = new ScriptedStream(as === null ? receiver.address : receiver.tlsAddress, as);
    t.teardown(() => stream.close());
    stream.say({ hello: victim.agent.hello(hello) });
    return stream.hear('welcome').then(
      () => 'welcome',
      (error: Error) => /refused: (\w+)/.exec(error.message)?.[1] ?? error.message,
    );
  };
  return { receiver, victim, attacker, say };
}

t.test("host A in B's group", async (t) => {
  const { victim, say } = await scene(t);
  const fresh = (): Partial<Hello> => ({ member: randomBytes(16), instance: randomBytes(16), epoch: 1n });
  const volumes = [{ ...victim.agent.info, uuid: randomBytes(16) }];
  t.equal(await say({ ...fresh(), volumes }), 'GROUP_FORBIDDEN', 'as another member of it');
  t.equal(
    await say({ epoch: 99n, instance: randomBytes(16) }),
    'GROUP_FORBIDDEN',
    'as its own member, and newer',
  );
  t.equal(await say({ ...fresh(), group: randomBytes(16), volumes }), 'GROUP_FORBIDDEN', 'under its name');
  t.equal(await say({ ...fresh(), groupName: 'mine', volumes }), 'GROUP_MISMATCH', 'under its UUID');
  t.equal(
    await say({ epoch: 99n, groupName: 'mine', group: randomBytes(16) }),
    'GROUP_FORBIDDEN',
    'its member in a group of my own',
  );
  t.equal(
    await say({ ...fresh(), groupName: 'mine', group: randomBytes(16) }),
    'VOLUME_MISMATCH',
    'its volume',
  );
  t.equal(
    await say({ ...fresh(), groupName: 'mine', group: randomBytes(16), host: 'db1', volumes }),
    'welcome',
    'a group of its own it may have',
  );
  const [last] = (await writeMore(victim, 3)).slice(-1);
  t.ok(
    (await recovered(victim, `lsn:${last}`)).equals(victim.agent.present),
    'the other one went on meanwhile',
  );
  t.match((await victim.receiver.status()).groups, [
    { name: 'db', host: 'db1' },
    { name: 'mine', host: 'evil' },
  ]);
});

t.test('a group that was given to somebody is not free for the first who comes', async (t) => {
  const { receiver, say, victim } = await scene(t);
  await receiver.access('hostGrant', { host: 'db1', group: 'mail', granted: true });
  const volumes = [{ ...victim.agent.info, uuid: randomBytes(16) }];
  const mail = { groupName: 'mail', group: randomBytes(16), member: randomBytes(16), volumes };
  t.equal(await say(mail), 'GROUP_FORBIDDEN');
  t.equal(await say(mail, null), 'GROUP_FORBIDDEN', 'nor for who comes without identity');
  await receiver.access('hostGrant', { host: 'evil', group: 'mail', granted: true });
  t.equal(await say(mail), 'welcome');
});

t.test('a host that was given groups begins none', async (t) => {
  const { receiver, say, victim } = await scene(t);
  const tied = await receiver.join('host', 'tied', { groups: ['web'] });
  const volumes = [{ ...victim.agent.info, uuid: randomBytes(16) }];
  const hello = (groupName: string): Partial<Hello> => ({
    groupName,
    group: randomBytes(16),
    member: randomBytes(16),
    volumes,
  });
  t.equal(await say(hello('other'), tied), 'GROUP_FORBIDDEN');
  const web = hello('web');
  t.equal(await say(web, tied), 'welcome');
  await receiver.access('hostGrant', { host: 'tied', group: 'web', granted: false });
  t.equal(await say({ ...web, epoch: 2n }, tied), 'GROUP_FORBIDDEN', 'it was taken away');
});

t.test('without identity nobody writes what a host with one has', async (t) => {
  const { say } = await scene(t);
  t.equal(await say({ epoch: 99n, instance: randomBytes(16) }, null), 'GROUP_FORBIDDEN');
});

t.test("another one's session, history, checkpoints and exports", async (t) => {
  const { receiver, attacker, victim } = await scene(t);
  const [lsn] = await writeMore(victim, 1);
  const point = `lsn:${lsn}`;
  const content = Buffer.from(victim.agent.present);
  const opened = await receiver.call('exportOpen', { group: 'db', point, ...EXPORT });
  const client = clientOf(t, receiver.tls, attacker.authority, attacker);
  const group = 'db';
  const calls = [
    client.callUnary(receiverControlService.checkpointDelete, { group, name: 'kept' }, LIMITS),
    client.callUnary(
      receiverControlService.checkpointPin,
      { group, name: 'kept', pinned: false, lockUntilNs: 0n },
      LIMITS,
    ),
    client.callUnary(receiverControlService.status, {}, LIMITS),
    client.callUnary(receiverControlService.exportClose, { id: opened.id }, LIMITS),
    client.callUnary(accessService.identityRevoke, { kind: 'host', name: 'db1' }, LIMITS),
    client.callUnary(accessService.tokenList, {}, LIMITS),
  ];
  // There are no such calls where hosts come in.
  for (const call of calls) t.equal(await codeOf(call), 'PROTOCOL_VERSION');
  const before = await grades(victim);
  await writeMore(victim, 2);
  t.equal((await grades(victim)).length, before.length);
  t.ok((await recovered(victim, point)).equals(content), 'the point is as it was');
  t.match(await receiver.call('exportList', {}), { exports: [{ id: opened.id }] });
});

t.test('what a host says of itself is nothing that it could not be', async (t) => {
  const { say, victim } = await scene(t);
  const own = (more: Partial<Hello>): Partial<Hello> => ({
    ...{ group: randomBytes(16), member: randomBytes(16), groupName: 'mine' },
    volumes: [{ ...victim.agent.info, uuid: randomBytes(16) }],
    ...more,
  });
  const names = ['../db', '..', '.', 'db\0', 'x'.repeat(10_000), 'dｂ', 'a/b', '', '\u202edb', 'db ', '-db'];
  for (const groupName of names)
    t.match(
      await say(own({ groupName })),
      /GROUP_FORBIDDEN|MESSAGE_INVALID/,
      JSON.stringify(groupName.slice(0, 20)),
    );
  for (const name of names)
    t.equal(
      await say(own({ volumes: [{ ...victim.agent.info, uuid: randomBytes(16), name }] })),
      'MESSAGE_INVALID',
      JSON.stringify(name.slice(0, 20)),
    );
  t.equal(await say(own({ host: '../../etc' })), 'welcome', 'its name is that of its certificate');
});

t.test('groups and members without end', async (t) => {
  const { receiver, say, victim } = await scene(t);
  const hello = (groupName: string, group: Buffer, agent: ScriptedAgent): Partial<Hello> => ({
    ...{ groupName, group, member: randomBytes(16) },
    // No two volumes of a group have one name.
    volumes: [{ ...agent.info, uuid: randomBytes(16), name: `v${randomBytes(4).toString('hex')}` }],
  });
  const group = randomBytes(16);
  const outcomes: string[] = [];
  for (let at = 0; at < 17; at += 1) outcomes.push(await say(hello('many', group, victim.agent)));
  t.same(outcomes.slice(15), ['welcome', 'GROUP_FORBIDDEN'], 'sixteen members');
  const made = await readdir(path.join(receiver.store, 'groups', formatUuid(group)));
  t.equal(made.length, 16, 'and nothing is made for the one that was refused');
  const founded: string[] = [];
  for (let at = 0; at < 64; at += 1) founded.push(await say(hello(`g${at}`, randomBytes(16), victim.agent)));
  t.same(founded.slice(62), ['welcome', 'GROUP_FORBIDDEN'], 'sixty-four groups, with the one above');
  t.ok((await receiver.status()).groups.some(({ name, state }) => name === 'db' && state !== 'disconnected'));
});
