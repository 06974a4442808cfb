// Signatures, checked by the public library of the Standard Webhooks spec.
import { Webhook, WebhookVerificationError } from 'standardwebhooks';
import { describe, expect, it } from 'vitest';
import { createSecret, sign } from '../../src/webhooks/sign.ts';

const message = { id: 'msg_1', payload: JSON.stringify({ type: 'job.done', data: { name: 'Größe 🎈' } }) };
const minutes = (count: number) => count * 60_000;

describe('a signature', () => {
  it('is one that the public library accepts', async () => {
    const secret = createSecret();
    const headers = await sign({ ...message, secrets: [{ secret }], at: Date.now() });
    expect(new Webhook(secret).verify(message.payload, headers)).toEqual(JSON.parse(message.payload));
  });

  it('is for its secret only', async () => {
    const headers = await sign({ ...message, secrets: [{ secret: createSecret() }], at: Date.now() });
    expect(() => new Webhook(createSecret()).verify(message.payload, headers)).toThrow(WebhookVerificationError);
  });

  it.each(['webhook-id', 'webhook-timestamp', 'body'])('fails where one byte of %s is changed', async (what) => {
    const secret = createSecret();
    const at = Date.now();
    const headers = await sign({ ...message, secrets: [{ secret }], at });
    const body = what === 'body' ? message.payload.replace('job.done', 'job.gone') : message.payload;
    if (what === 'webhook-id') headers['webhook-id'] = 'msg_2';
    if (what === 'webhook-timestamp') headers['webhook-timestamp'] = String(Math.floor(at / 1000) + 1);
    expect(() => new Webhook(secret).verify(body, headers)).toThrow('No matching signature');
  });

  it('cannot be replayed six minutes later', async () => {
    const secret = createSecret();
    const headers = await sign({ ...message, secrets: [{ secret }], at: Date.now() - minutes(6) });
    expect(() => new Webhook(secret).verify(message.payload, headers)).toThrow('too old');
  });
});

describe('while a secret is being changed', () => {
  const fresh = createSecret();
  const old = createSecret();

  it('both sign, and either is accepted', async () => {
    const secrets = [{ secret: fresh }, { secret: old, until: Date.now() + 1000 }];
    const headers = await sign({ ...message, secrets, at: Date.now() });
    expect(headers['webhook-signature']).toMatch(/^v1,[\w+/=]{44} v1,[\w+/=]{44}$/);
    for (const secret of [fresh, old]) new Webhook(secret).verify(message.payload, headers);
  });

  it('the old one ends', async () => {
    const secrets = [{ secret: fresh }, { secret: old, until: Date.now() }];
    const headers = await sign({ ...message, secrets, at: Date.now() });
    new Webhook(fresh).verify(message.payload, headers);
    expect(() => new Webhook(old).verify(message.payload, headers)).toThrow('No matching signature');
  });
});

it('a secret is 32 random bytes in the spelling of the spec', () => {
  const [one, two] = [createSecret(), createSecret()];
  expect(one).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
  expect(one).not.toBe(two);
});
