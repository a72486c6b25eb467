/** What a round asks of its daemons, over their control sockets: hundreds of times, so without a process for each. */
import { mkdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  agentControlService,
  receiverControlService,
  type ExportInfo,
  type GroupStatus,
  type PointInfo,
  type TimelineSpan,
} from '../../proto/control.js';
import { RpcClient } from '../../service/rpc.js';
import type { Site } from '../scenario/site.js';

const ANSWER_MS_MAX = 10_000;
const WORK_MS_MAX = 120_000;
const POLL_MS = 30;

export class SiteControl {
  private copies = 0;

  /** `directory`: below which points are copied, to be read. */
  constructor(
    private readonly site: Site,
    private readonly directory: string,
  ) {}

  async agentGroup(): Promise<GroupStatus> {
    const { groups } = await this.with(this.site.agentControl, (client) =>
      client.callUnary(agentControlService.status, {}, { timeoutMs: ANSWER_MS_MAX }),
    );
    return this.groupOf(groups);
  }

  async receiverGroup(): Promise<GroupStatus> {
    const { groups } = await this.with(this.site.receiverControl, (client) =>
      client.callUnary(receiverControlService.status, {}, { timeoutMs: ANSWER_MS_MAX }),
    );
    return this.groupOf(groups);
  }

  /** Polls until the agent answers so; what it said. Rejects after `secondsMax`. */
  async waitFor(what: string, secondsMax: number, is: (group: GroupStatus) => boolean): Promise<GroupStatus> {
    const deadline = Date.now() + secondsMax * 1000;
    let last = '';
    for (;;) {
      const group = await this.agentGroup().catch((thrown: unknown) => {
        last = String(thrown);
        return null;
      });
      if (group !== null) {
        if (is(group)) return group;
        const { state, detail, generation, capturedLsn, durableLsn } = group;
        last = `${state} (${detail}), generation ${generation}, captured ${capturedLsn}, durable ${durableLsn}`;
      }
      if (Date.now() > deadline) throw new Error(`not ${what} after ${secondsMax} s: ${last}`);
      await sleep(POLL_MS);
    }
  }

  /** Protected, and all is acknowledged that was captured when it was: a database goes on, and never waits for that. */
  settled(secondsMax: number): Promise<GroupStatus> {
    let wanted: bigint | null = null;
    return this.waitFor('settled', secondsMax, ({ state, capturedLsn, durableLsn }) => {
      if (state !== 'protected') wanted = null;
      else wanted ??= capturedLsn;
      return wanted !== null && durableLsn >= wanted;
    });
  }

  async timeline(): Promise<TimelineSpan[]> {
    const { spans } = await this.with(this.site.receiverControl, (client) => {
      const request = { group: this.site.group };
      return client.callUnary(receiverControlService.timeline, request, { timeoutMs: WORK_MS_MAX });
    });
    return spans;
  }

  point(point: string): Promise<PointInfo> {
    return this.with(this.site.receiverControl, (client) => {
      const request = { group: this.site.group, point };
      return client.callUnary(receiverControlService.point, request, { timeoutMs: WORK_MS_MAX });
    });
  }

  /** What the volumes held at a point. */
  async recovered(volumes: readonly string[], point: string): Promise<Buffer[]> {
    this.copies += 1;
    const directory = path.join(this.directory, String(this.copies));
    await mkdir(directory, { recursive: true });
    const images: Buffer[] = [];
    for (const volume of volumes) {
      const target = path.join(directory, `${volume}.img`);
      const request = { group: this.site.group, volume, point, target, overwrite: true, force: false };
      await this.with(this.site.receiverControl, async (client) => {
        const limits = { timeoutMs: WORK_MS_MAX };
        for await (const { phase } of client.callStream(receiverControlService.recover, request, limits))
          if (phase === 'done') break;
      });
      images.push(await readFile(target));
    }
    await rm(directory, { recursive: true });
    return images;
  }

  /** A volume of a point, writable, as a device. */
  open(volume: string, point: string): Promise<ExportInfo> {
    const request = {
      ...{ group: this.site.group, point, volumes: [volume], writable: true, device: true },
      ...{ socket: '', tcp: '', force: false },
    };
    return this.with(this.site.receiverControl, (client) =>
      client.callUnary(receiverControlService.exportOpen, request, { timeoutMs: WORK_MS_MAX }),
    );
  }
  async close({ id }: ExportInfo): Promise<void> {
    await this.with(this.site.receiverControl, (client) =>
      client.callUnary(receiverControlService.exportClose, { id }, { timeoutMs: WORK_MS_MAX }),
    );
  }

  private groupOf(groups: readonly GroupStatus[]): GroupStatus {
    const group = groups.find(({ name }) => name === this.site.group);
    if (group === undefined) throw new Error(`group ${this.site.group} is not known`);
    return group;
  }

  private async with<T>(socket: string, talk: (client: RpcClient) => Promise<T>): Promise<T> {
    const client = await RpcClient.openControl(socket);
    try {
      return await talk(client);
    } finally {
      client.close();
    }
  }
}
