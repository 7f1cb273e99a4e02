// mysql.js DRIVER PORT ROUNDS [MS]: idle for a while (so long), then all sorts of work; a mismatch, an error event or a warning fails it.
// TLS_CA in the environment: by TLS, with this CA. DB_USER: another user.
// mysql.js DRIVER PORT 0: says "up"; when told to, asks once more and says what the error was.
const [driver, port, rounds, idle] = [process.argv[2], +process.argv[3], +process.argv[4], +(process.argv[5] || 400)];
const sleep = ms => new Promise(done => setTimeout(done, ms));
const fail = e => { console.log('FAIL ' + e.message); process.exit(1); };
const check = (got, wanted) => { if (JSON.stringify(got) !== JSON.stringify(wanted)) throw Error(JSON.stringify(got) + ' is not ' + JSON.stringify(wanted)); };
process.on('uncaughtException', fail);
process.on('warning', fail);
const where = { host: '127.0.0.1', port, user: process.env.DB_USER || 'hb', password: 'pw', database: 'hb' };
if (process.env.TLS_CA)
	where.ssl = { ca: require('fs').readFileSync(process.env.TLS_CA) };

async function mysql2Round(c, i) {
	const [bound] = await c.execute('select ? as a, ? as b', [i, 'x' + i]);
	check([+bound[0].a, bound[0].b], [i, 'x' + i]);
	const [both] = await c.query('select 1 as a; select 2 as b');
	check(both[1][0].b, 2);
	await c.query('bogus').then(() => fail(Error('no error')), () => 0);
	const statement = await c.prepare('select seq from seq_1_to_50 where seq > ?');
	check((await statement.execute([10]))[0].length, 40);
	await statement.close();
	await c.ping();
	const all = await Promise.all([c.query('select 7 as x'), c.query('select 8 as x'), c.execute('select 9 as x')]);
	check(all.map(r => r[0][0].x), [7, 8, 9]);
	await c.beginTransaction(); await c.query('insert into t(v) values (1)'); await c.rollback();
	await c.changeUser({ user: 'hb', password: 'pw', database: 'hb' });
}

async function mariadbRound(c, i) {
	const all = await Promise.all([1, 2, 3, 4].map(k => c.execute('select ? as a', [k * i])));
	check(all.map(r => +r[0].a), [1, 2, 3, 4].map(k => k * i));
	await c.query('create temporary table if not exists bt(v int)');
	await c.batch('insert into bt(v) values (?)', [[1], [2], [3]]);
	await c.query('bogus').then(() => fail(Error('no error')), () => 0);
	let rows = 0;
	for await (const row of c.queryStream('select seq from seq_1_to_300')) rows += row.seq > 0;
	check(rows, 300);
	await c.ping();
	const many = await Promise.all([...Array(100).keys()].map(k => c.query('select ' + k + ' as a')));
	check(many.map(r => +r[0].a), [...Array(100).keys()]);
	if (i % 5 === 0) { await c.changeUser({ user: 'hb', password: 'pw', database: 'hb' }); await c.reset(); }
}

(async () => {
	const c = driver === 'mysql2' ? await require('mysql2/promise').createConnection({ ...where, multipleStatements: true }) :
		await require('mariadb').createConnection({ ...where, pipelining: true });
	if (rounds === 0) {
		console.log('up');
		process.stdin.once('data', () => c.query('select 1').catch(e => { console.log(e.code, e.sqlState, e.message); process.exit(); }));
		return;
	}
	const rows = async (sql) => { const r = await c.query(sql); return driver === 'mysql2' ? r[0] : r; };
	const id = async () => Number((await rows('select connection_id() as id'))[0].id);
	c.on('error', fail);
	const before = await id();
	await sleep(idle);
	check([...await rows('show warnings')], []);
	check(await id(), before);
	for (let i = 0; i < rounds; i++) { await (driver === 'mysql2' ? mysql2Round : mariadbRound)(c, i); await sleep(3); }
	await c.end();
	console.log('ok ' + rounds);
})().catch(fail);
