/** A host that has joined a receiver which does not run: by the product's own parts, as `token create` and `agent join` do it. */
import { mkdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import { identityFile } from '../../agent/config.js';
import { Authority } from '../../receiver/authority.js';
import { Catalog } from '../../receiver/catalog/catalog.js';
import { Identities } from '../../receiver/identities.js';
import { certificateRequest, newSigningKey } from '../../service/certificates.js';
import { writeIdentity } from '../../service/identity.js';
import { parseToken } from '../../service/token.js';

const HOUR_NS = 3_600_000_000_000n;
const LIFETIME_MS = 90 * 86_400_000;

/** `groups`: null: it may begin groups that nobody has. */
export async function joinOffline(
  store: string,
  stateDir: string,
  receiver: string,
  name = hostname(),
  groups: string[] | null = null,
): Promise<void> {
  const authority = await Authority.open(`${store}/authority.pem`);
  if (authority === null) throw new Error(`${store} has no authority`);
  const catalog = Catalog.open(`${store}/catalog.sqlite`);
  try {
    const nowNs = (): bigint => BigInt(Date.now()) * 1_000_000n;
    const identities = new Identities({ catalog, authority, nowNs, lifetimeMs: LIFETIME_MS });
    const { text } = identities.createToken({ kind: 'host', name, role: 'agent', groups, ttlNs: HOUR_NS });
    const key = await newSigningKey();
    const request = await certificateRequest(key);
    const { certificate } = await identities.join({ ...parseToken(text), request, kind: 'host', name });
    await mkdir(stateDir, { recursive: true, mode: 0o700 });
    await writeIdentity(identityFile(stateDir), {
      ...{ kind: 'host', name, role: 'agent', receiver, store, certificate, key: key.pem },
      authority: authority.certificate,
    });
  } finally {
    catalog.close();
  }
}
