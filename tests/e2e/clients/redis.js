// redis.js DRIVER PORT MS: a session that is quiet for so long, then used: it must be the same one.
// redis.js DRIVER PORT: a session that is idle for a while, a transaction, a blocking command, a subscription, a pipeline.
// TLS in the environment: by TLS; NODE_EXTRA_CA_CERTS is node's own word for a CA.
const [driver, port] = [process.argv[2], +process.argv[3]];
const sleep = ms => new Promise(done => setTimeout(done, ms));
const say = text => console.log(text);
const fail = e => { say('FAIL ' + e.message); process.exit(1); };
process.on('uncaughtException', fail);
process.on('warning', fail);
const protocol = +driver.at(-1);
const idle = +process.argv[4];
const own = name => driver + ':' + name;	// drivers run side by side
const hundred = [...Array(100).keys()];

async function rest(c, id) {
	let done = false;
	for (const event of ['reconnecting', 'end', 'close']) c.on(event, () => done || fail(Error(event)));
	const before = await id();
	await sleep(idle);
	const after = await id();
	if (!(before > 0) || after !== before) throw Error('session ' + before + ' became ' + after);
	say('idle');
	done = true;
}

async function nodeRedis() {
	const { createClient } = require('redis');
	const c = createClient({ url: (process.env.TLS ? 'rediss' : 'redis') + '://127.0.0.1:' + port, RESP: protocol, socket: { reconnectStrategy: false } });
	c.on('error', fail);
	await c.connect();
	if (idle) { await rest(c, () => c.sendCommand(['CLIENT', 'ID'])); c.destroy(); return; }
	await c.set(own('k'), 'v1'); await sleep(400); say('idle ' + await c.get(own('k')));
	say('multi ' + JSON.stringify(await c.multi().set(own('k'), 'v2').get(own('k')).exec()));
	say('blpop ' + await c.blPop(own('nothing'), 0.3)); say('get ' + await c.get(own('k')));
	const got = [], s = c.duplicate();
	s.on('error', fail);
	await s.connect(); await s.subscribe(own('c'), m => got.push(m));
	await sleep(300); await c.publish(own('c'), 'm1'); await sleep(100); await c.publish(own('c'), 'm2'); await sleep(100);
	say('messages ' + got);
	const all = await Promise.all(hundred.map(i => c.set(own('n' + i), i).then(() => c.get(own('n' + i)))));
	if (all.join() !== hundred.join()) throw Error('pipeline ' + all);
	say('pipeline 0..99');
	s.destroy(); c.destroy();
}

async function ioRedis() {
	const Redis = require('ioredis');
	const c = new Redis({ host: '127.0.0.1', port, retryStrategy: null, protocol, tls: process.env.TLS && {} });
	c.on('error', fail);
	if (idle) { await rest(c, () => c.client('ID')); c.disconnect(); return; }
	await c.set(own('k'), 'v1'); await sleep(400); say('idle ' + await c.get(own('k')));
	say('multi ' + JSON.stringify((await c.multi().set(own('k'), 'v2').get(own('k')).exec()).map(r => r[1])));
	say('blpop ' + await c.blpop(own('nothing'), 0.3)); say('get ' + await c.get(own('k')));
	const got = [], s = c.duplicate();
	s.on('error', fail); s.on('message', (_, m) => got.push(m));
	await s.subscribe(own('c'));
	await sleep(300); await c.publish(own('c'), 'm1'); await sleep(100); await c.publish(own('c'), 'm2'); await sleep(100);
	say('messages ' + got);
	const p = c.pipeline();
	hundred.forEach(i => p.set(own('n' + i), i).get(own('n' + i)));
	const all = (await p.exec()).filter((_, i) => i % 2).map(r => r[1]);
	if (all.join() !== hundred.join()) throw Error('pipeline ' + all);
	say('pipeline 0..99');
	s.disconnect(); c.disconnect();
}

(driver.startsWith('node-redis') ? nodeRedis() : ioRedis()).then(() => say('end')).catch(fail);
