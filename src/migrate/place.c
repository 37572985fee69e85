/* SPDX-License-Identifier: MIT */
/*
 * Device memory for a piece: one folio of order 9 where that is wanted and the device has one, else the largest folios that can
 * be had, aligned to their sizes within the block - the source is not split for that, only its entry. Which orders may be
 * used:
 *
 *   what was a THP, or 2 MiB of nothing   all
 *   base pages                            0, and those that the host itself uses for such memory (mTHP); all below 9 when the
 *                                         caller has said how large they may be
 *
 * and of these what the caller and the device allow. An order that was refused once is not asked for again in this block.
 * Pages for which there is nothing go back.
 */
#include "base/err.h"
#include "migrate/migrate.h"

#define ALL_ORDERS ((1u << NR_ORDERS) - 1)

static uint32_t orders_for(const struct piece *p)
{
	uint32_t orders = p->from_huge ? ALL_ORDERS : p->limit ? ALL_ORDERS >> 1 : p->mthp | 1;

	if (p->limit)
		orders &= (1u << p->limit) - 1;
	return orders & p->dev->props.orders;
}

static unsigned largest(uint32_t orders) { return 31 - (unsigned)__builtin_clz(orders); }

/* The largest of @orders, 0 among them, that a folio for page @i on can have: aligned, and with claimed pages only. */
static unsigned fitting_order(const struct pageset *mine, unsigned i, uint32_t orders)
{
	for (;;) {
		unsigned order = largest(orders), k = 0;

		while (k < order_pages(order) && folio_head(i, order) == i && pageset_has(mine, i + k))
			k++;
		if (!order || k == order_pages(order))
			return order;
		orders &= ~(1u << order);
	}
}

/* A folio for page @i on. @orders: becomes less when one is refused. Return: its order, or -1 when there is none at all. */
static int place_one(struct piece *p, unsigned i, uint32_t *orders)
{
	while (*orders) {
		unsigned order = fitting_order(&p->claim.mine, i, *orders);
		uint64_t offset;

		if (!device_alloc(p->dev, order, &offset)) {
			folios_set(&p->folios, i, offset, order);
			return (int)order;
		}
		*orders &= (1u << order) - 1; /* what has no small one has no large one either */
	}
	return -1;
}

static void place_pages(struct piece *p, uint32_t orders, struct tally *t)
{
	struct pageset none = { 0 };
	int order;

	for (unsigned i = pageset_next(&p->claim.mine, 0); i < PAGES_PER_BLOCK;
	     i = pageset_next(&p->claim.mine, i + order_pages((unsigned)order))) {
		order = place_one(p, i, &orders);
		if (order < 0) {
			pageset_add(&none, i);
			order = 0;
		}
	}
	if (pageset_empty(&none))
		return;
	tally_skip(t, UHMM_SKIP_NO_ROOM, pageset_count(&none));
	install_back(p, &none);
}

void place_folios(struct mover *mv, struct piece *p, struct tally *t)
{
	uint32_t orders = orders_for(p);

	(void)mv;
	if (claim_empty(&p->claim))
		return;
	p->folios.whole = false;
	if (p->kind != PIECE_PAGES && orders >> BLOCK_ORDER & 1 && !atomic_load(&p->dev->closing)) {
		p->folios.whole = !device_alloc(p->dev, BLOCK_ORDER, &p->folios.offset[0]);
		if (p->folios.whole)
			return;
	}
	if (atomic_load(&p->dev->closing) || claim_split(&p->claim)) {
		struct pageset all = p->claim.mine;

		tally_skip(t, UHMM_SKIP_NO_ROOM, pageset_count(&all));
		install_back(p, &all);
		return;
	}
	p->kind = PIECE_PAGES;
	place_pages(p, orders & ~(1u << BLOCK_ORDER), t);
}
